"""A version that is there is a good one, whatever happened while it was written."""

import dataclasses
import datetime
import errno
import json
import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exports import verifier
from support import exportable as model

from distill.errors import UserError
from distill.export import stablehlo
from distill.export.model import Artefact, ExportFailed, ExportMismatch
from distill.export.versions import FORMATS, export_version


def worse(form, change):
    """A format that writes the model with other parameters."""
    (write,) = FORMATS[form].write

    def wrong(exported, directory):
        params = jax.tree.map(change, exported.params)
        return write(dataclasses.replace(exported, params=params), directory)

    return FORMATS[form]._replace(write=(wrong,))


@pytest.mark.slow
@pytest.mark.usefixtures("runtimes_in_this_process")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p + 1e-3, "StableHLO export differs from JAX by"),
        (lambda p: p * jnp.nan, "StableHLO export differs from JAX by nan"),
    ],
)
def test_an_export_that_differs_leaves_nothing(change, message, tmp_path, monkeypatch):
    exported = model("map")
    monkeypatch.setitem(FORMATS, "stablehlo", worse("stablehlo", change))
    (tmp_path / "1").mkdir()
    with pytest.raises(ExportMismatch, match=message):
        export_version(exported, "stablehlo", tmp_path, verifier(exported))
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


@pytest.mark.slow
def test_an_export_that_cannot_be_run_leaves_nothing(tmp_path, monkeypatch):
    def broken(exported, directory):
        artefact = stablehlo.write(exported, directory)
        artefact.path.write_bytes(artefact.path.read_bytes()[:1000])
        return artefact

    exported = model("map")
    monkeypatch.setitem(FORMATS, "stablehlo", FORMATS["stablehlo"]._replace(write=(broken,)))
    with pytest.raises(ExportMismatch, match="the StableHLO export cannot be run"):
        export_version(exported, "stablehlo", tmp_path / "some" / "where", verifier(exported))
    assert not (tmp_path / "some").exists()


@pytest.fixture
def says(monkeypatch):
    """Makes runtimes say what a function makes of what JAX says."""

    def make(exported, change):
        verify = verifier(exported)

        def run(artefact, directory):
            with np.load(directory / "inputs.npz") as inputs:
                sizes = {name.partition("/")[0]: len(inputs[name]) for name in inputs}
            said = {f"{n}/{k}": v[:s] for n, s in sizes.items() for k, v in verify.expected.items()}
            np.savez(directory / "outputs.npz", **change(said))
            return {"1": 0.001, "32": 0.002}

        monkeypatch.setattr("distill.export.verify.run_artefact", run)
        return verify

    return make


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda said: {k: v for k, v in said.items() if "logits" not in k}, "no output 'logits'"),
        (
            lambda said: said | {"3/logits": said["3/logits"][:2]},
            r"shape \(2, 5\), expected \(3, 5\)",
        ),
        (lambda said: said | {"1/embedding": said["1/embedding"] + 1e-3}, "embedding .* differs"),
    ],
)
def test_outputs_that_are_not_those_of_jax_are_refused(change, message, says, tmp_path):
    exported = model()
    with pytest.raises(ExportMismatch, match=message):
        export_version(exported, "stablehlo", tmp_path / "out", says(exported, change))
    assert not (tmp_path / "out").exists()


def test_a_number_that_somebody_else_took_is_passed_over(says, tmp_path, monkeypatch):
    exported, rename = model(), Path.rename

    def late(path, target):
        if target.name == "1":
            (target / "other").mkdir(parents=True)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", late)
    version = export_version(exported, "stablehlo", tmp_path, says(exported, dict))
    assert version.path == tmp_path / "2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_what_a_killed_export_left_is_removed(says, tmp_path):
    (tmp_path / ".exporting-old" / "model").mkdir(parents=True)
    export_version(model(), "stablehlo", tmp_path, says(model(), dict))
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_a_disk_that_is_full_is_said(says, tmp_path, monkeypatch):
    def full(exported, directory):
        raise OSError(errno.ENOSPC, "No space left on device")

    exported = model()
    monkeypatch.setitem(FORMATS, "stablehlo", FORMATS["stablehlo"]._replace(write=(full,)))
    with pytest.raises(UserError, match=r"cannot be written: No space left on device; free space"):
        export_version(exported, "stablehlo", tmp_path / "out", says(exported, dict))
    assert not (tmp_path / "out").exists()


@pytest.fixture
def some(monkeypatch):
    """Makes a format of artefacts that are a file each, or what keeps them from being one."""

    def writer(name, problem):
        def write(exported, directory):
            directory.mkdir()
            file = directory / name
            file.write_text("weights")
            # As libraries leave files that they wrote through temporary ones.
            file.chmod(0o600)
            if problem:
                raise problem
            return Artefact(name, "stablehlo", file, exact=True)

        return write

    def make(**problems):
        write = [writer(name, problem) for name, problem in problems.items()]
        monkeypatch.setitem(FORMATS, "stablehlo", FORMATS["stablehlo"]._replace(write=write))

    return make


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (ExportMismatch("b is another model"), "b is another model"),
        (ImportError("libx.so is missing"), "stablehlo needs what cannot be loaded here: libx"),
    ],
)
@pytest.mark.parametrize("first", [False, True])
def test_an_artefact_that_fails_spoils_no_other(first, problem, said, some, says, tmp_path):
    some(**({"b": problem, "a": None} if first else {"a": None, "b": problem, "c": None}))
    exported = model()
    version = export_version(exported, "stablehlo", tmp_path, says(exported, dict))
    there = {path.name for path in version.path.iterdir()}
    assert there == {"a", *("" if first else "c"), "export.json", "MODEL_CARD.md", "checksums.json"}
    (error,) = version.failed
    assert re.search(said, str(error))
    described = json.loads((version.path / "export.json").read_text())
    assert [one["name"] for one in described["checked"]] == (["a"] if first else ["a", "c"])
    assert described["written"] == str(datetime.datetime.now(datetime.UTC).date())
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_a_version_without_artefacts_does_not_appear(some, says, tmp_path):
    exported = model()
    some(a=ExportMismatch("not a"), b=ExportMismatch("not b"))
    with pytest.raises(ExportFailed, match=r"not a\nnot b"):
        export_version(exported, "stablehlo", tmp_path / "out", says(exported, dict))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_what_is_exported_has_the_rights_that_the_user_gives(umask, some, says, tmp_path):
    some(a=None)
    exported, before = model(), os.umask(umask)
    try:
        version = export_version(exported, "stablehlo", tmp_path / "out", says(exported, dict))
    finally:
        os.umask(before)
    rights = {path: path.stat().st_mode & 0o777 for path in version.path.rglob("*")}
    assert rights == dict.fromkeys(rights, 0o666 & ~umask)
    for directory in (version.path, version.path.parent):
        assert directory.stat().st_mode & 0o777 == 0o777 & ~umask


def test_a_runtime_that_cannot_be_started_is_said(some, tmp_path, monkeypatch):
    some(a=None)
    monkeypatch.setattr("sys.executable", str(tmp_path / "gone"))
    exported = model()
    with pytest.raises(ExportMismatch, match=r"the a export cannot be run: .*No such file"):
        export_version(exported, "stablehlo", tmp_path / "out", verifier(exported))


@pytest.mark.slow
@pytest.mark.usefixtures("runtimes_in_this_process")
def test_a_lossy_export_that_prefers_other_classes_is_refused(tmp_path, monkeypatch):
    exported = model("map", dtype="bfloat16")
    monkeypatch.setitem(FORMATS, "stablehlo", worse("stablehlo", lambda p: -p))
    with pytest.raises(ExportMismatch, match=r"agrees with JAX on .* at least 99%"):
        export_version(exported, "stablehlo", tmp_path / "out", verifier(exported))
    assert not (tmp_path / "out").exists()
