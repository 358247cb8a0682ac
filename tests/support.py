"""What tests share: commands as a user runs them, and runs that take seconds."""

import contextlib
import fnmatch
import functools
import io
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
import pytest

from distill.config import load_file, resolve
from distill.data import Source, Subset
from distill.data.sources import CorruptImage
from distill.data.spec import Example
from distill.evaluation_view import EvaluationView
from distill.export.images import ImageExportable
from distill.runs.distillation import DistillConfig
from distill.runs.opened import open_model
from pipelines import cli
from pipelines.pretrain import PretrainConfig
from students import vit

REPOSITORY = Path(__file__).resolve().parent.parent

# Wall-clock measurements: the only figures that may differ between two equal runs.
TIMINGS = {
    *("train/images_per_second", "train/data_wait", "images_per_second"),
    *("seconds", "first_step_seconds"),
}

# A run of the digits configs that takes seconds.
TINY = {
    "model.width": "16",
    "model.depth": "2",
    "model.mlp_dim": "32",
    "model.heads": "2",
    "schedule.warmup_steps": "2",
    "schedule.cooldown_steps": "0",
    "train.total_steps": "10",
    "train.batch_size": "32",
    "train.log_every": "2",
    "train.eval_every": "10",
    "train.checkpoint_every": "5",
    # They take another program to compile.
    "train.example_images": "none",
}


def arguments(config: str, workdir: Path, **overrides: object) -> list[str]:
    """A training pipeline's flags for a tiny run; `section__key=value` overrides."""
    keys = TINY | _dotted(overrides)
    return [
        f"--config={REPOSITORY / 'configs' / config}",
        f"--workdir={workdir}",
        *(f"--config.{key}={value}" for key, value in keys.items()),
    ]


def run_python(*command: object, **options) -> subprocess.CompletedProcess:
    """Runs `python *command` in the repository and returns what it printed."""
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=options.pop("cwd", REPOSITORY),
        capture_output=True,
        text=True,
        timeout=options.pop("timeout", 300),
        check=False,
        **options,
    )


def run_command(*command: object) -> subprocess.CompletedProcess:
    """Runs `distill *command` in this process and returns what it printed.

    Another process would spend most of its time on starting Python and loading TensorFlow. What
    would be a traceback is raised.
    """
    arguments = ["distill", *map(str, command)]
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", arguments),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
        pytest.raises(SystemExit) as ended,
    ):
        # The command's module runs as the program, and is imported as a module elsewhere.
        warnings.filterwarnings("ignore", ".*found in sys.modules", RuntimeWarning)
        cli.main()
    return subprocess.CompletedProcess(arguments, ended.value.code, out.getvalue(), err.getvalue())


def loaded_by_command(*command: object) -> set[str]:
    """The modules that `distill *command` has loaded when it ends; it has to succeed."""
    code = (
        "import runpy, sys\n"
        "sys.argv[0] = 'distill'\n"
        "try:\n    runpy.run_module('pipelines.cli', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "print(*sys.modules)\n"
    )
    done = run_python("-c", code, *command)
    assert done.returncode == 0, done.stderr
    return {*done.stdout.splitlines()[-1].split()}


def run_script(script: str, **environment: str) -> Any:
    """Runs a script in a process of its own and returns what it printed last, as JSON."""
    done = run_python("-c", script, env={**os.environ, "JAX_PLATFORMS": "cpu", **environment})
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def pretrain_config(**overrides: object) -> PretrainConfig:
    """The digits pre-training config, tiny."""
    return _resolve(PretrainConfig, "pretrain/digits.py", overrides)


def distill_config(teacher: Path, **overrides: object) -> DistillConfig:
    """The digits distillation config, tiny."""
    return _resolve(DistillConfig, "distill/digits.py", overrides | {"teacher__workdir": teacher})


def _resolve(schema: type, file: str, overrides: dict[str, object]):
    tree = load_file(str(REPOSITORY / "configs" / file))
    return resolve(schema, tree, TINY | _dotted(overrides))


def _dotted(overrides: dict[str, object]) -> dict[str, str]:
    return {key.replace("__", "."): str(value) for key, value in overrides.items()}


class Damaged(Subset):
    """A source of which a few images cannot be decoded."""

    def __init__(self, source: Source, damaged: set[int]):
        super().__init__(source, np.arange(len(source)))
        self._damaged = damaged

    def read(self, index: int) -> Example:
        if index in self._damaged:
            raise CorruptImage("truncated")
        return super().read(index)


class Unlabelled(Subset):
    """A source of which a few images have no label."""

    def __init__(self, source: Source, without: Collection[int]):
        super().__init__(source, np.arange(len(source)))
        self._without = set(map(int, without))

    @property
    def labels(self) -> np.ndarray:
        missing = np.isin(np.arange(len(self)), list(self._without))
        return np.where(missing, -1, super().labels)

    def read(self, index: int) -> Example:
        example = super().read(index)
        return example | {"label": np.int32(-1)} if index in self._without else example


def without_timings(rows: list[dict]) -> list[dict]:
    """Rows of metrics, or summaries, without what differs between equal runs."""
    return [{k: v for k, v in row.items() if k not in TIMINGS} for row in rows]


def final_params(workdir: Path):
    """The parameters a complete run ended with."""
    mesh = jax.make_mesh((1, 1, 1), ("data", "fsdp", "tensor"))
    return open_model(workdir, mesh).params


def untold(found: Collection[str], told: Collection[str]) -> set[str]:
    """Names that none of others tells, in which `*` stands for anything."""
    return {one for one in found if not any(fnmatch.fnmatchcase(one, name) for name in told)}


WHOLE = EvaluationView(crop=1.0)


def exportable(
    head="cls", *, dtype="float32", channels=3, num_classes=5, view=WHOLE, **choices
) -> ImageExportable:
    """A tiny student whose every parameter matters."""
    network = vit.build(
        vit.configure(
            "mu/4",
            image_size=12,
            depth=2,
            channels=channels,
            head=head,
            num_classes=num_classes,
            **choices,
        )
    )
    names = [f"class {number}" for number in range(num_classes)]
    leaves, tree = _drawn(network)
    params = jax.tree.unflatten(tree, leaves)
    return ImageExportable(
        network=network, params=params, class_names=names, dtype=dtype, view=view
    )


@functools.cache
def _drawn(network):
    """Parameters none of which is zero, and their tree."""
    leaves, tree = jax.tree.flatten(network.init(jax.random.key(0)))
    keys = jax.random.split(jax.random.key(1), len(leaves))
    drawn = [
        leaf + 0.1 * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return drawn, tree


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
