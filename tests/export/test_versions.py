"""A version that is there is a good one, whatever happened while it was written."""

import errno
import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exports import verifier
from support import exportable as model

from distill.errors import UserError
from distill.export import stablehlo
from distill.export.model import Exportable, ExportMismatch
from distill.export.versions import FORMATS, export_version


def worse(form, change):
    """A format that writes the model with other parameters."""
    write = FORMATS[form].write

    def wrong(exported, directory):
        params = jax.tree.map(change, exported.params)
        return write(Exportable(**{**vars(exported), "params": params}), directory)

    return FORMATS[form]._replace(write=wrong)


@pytest.mark.slow
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
        artefacts = stablehlo.write(exported, directory)
        artefacts[0].path.write_bytes(artefacts[0].path.read_bytes()[:1000])
        return artefacts

    exported = model("map")
    monkeypatch.setitem(FORMATS, "stablehlo", FORMATS["stablehlo"]._replace(write=broken))
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
                sizes = {name: len(inputs[name]) for name in inputs}
            said = {f"{n}/{k}": v[:s] for n, s in sizes.items() for k, v in verify.expected.items()}
            np.savez(directory / "outputs.npz", **change(said))
            return {"1": 0.001, "32": 0.002}

        monkeypatch.setattr("distill.export.verify._run", run)
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


def test_what_a_killed_export_left_is_removed_once_it_is_old(says, tmp_path):
    exported = model()
    for name, age in ((".exporting-old", 2 * 24 * 3600), (".exporting-new", 0)):
        (tmp_path / name / "model").mkdir(parents=True)
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    export_version(exported, "stablehlo", tmp_path, says(exported, dict))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".exporting-new", "1"]


def test_a_disk_that_is_full_is_said(says, tmp_path, monkeypatch):
    def full(exported, directory):
        raise OSError(errno.ENOSPC, "No space left on device")

    exported = model()
    monkeypatch.setitem(FORMATS, "stablehlo", FORMATS["stablehlo"]._replace(write=full))
    with pytest.raises(UserError, match=r"cannot write to .*: No space left on device"):
        export_version(exported, "stablehlo", tmp_path / "out", says(exported, dict))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_lossy_export_that_prefers_other_classes_is_refused(tmp_path, monkeypatch):
    exported = model("map", dtype="bfloat16")
    monkeypatch.setitem(FORMATS, "stablehlo", worse("stablehlo", lambda p: -p))
    with pytest.raises(ExportMismatch, match=r"agrees with JAX on .* at least 99%"):
        export_version(exported, "stablehlo", tmp_path / "out", verifier(exported))
    assert not (tmp_path / "out").exists()
