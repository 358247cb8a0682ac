"""A run that is killed ends as one that is not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from support import (
    REPOSITORY,
    arguments,
    final_params,
    pretrain_config,
    run_command,
    without_timings,
)

from distill.json_files import read_json
from distill.train import metrics
from distill.train.workdir import Workdir
from pipelines import pretrain

pytestmark = pytest.mark.slow

STEPS = 80
RUN = dict(train__total_steps=STEPS, train__checkpoint_every=8, train__eval_every=10)


def start(workdir: Path) -> subprocess.Popen:
    command = ["-m", "pipelines.pretrain", *arguments("pretrain/digits.py", workdir, **RUN)]
    return subprocess.Popen(
        [sys.executable, *command], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True
    )


def wait_until(condition, process: subprocess.Popen) -> None:
    """Polls fast enough to catch a checkpoint while it is being written."""
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, f"the run ended too early: {process.stderr.read()}"
        assert time.monotonic() < deadline, "nothing happened for two minutes"
        time.sleep(0.0005)


def writing_a_checkpoint(workdir: Path) -> bool:
    folder = workdir / "checkpoints"
    return folder.is_dir() and any("tmp" in name for name in os.listdir(folder))


def reached(workdir: Path, step: int) -> bool:
    rows = metrics.read(workdir)
    return bool(rows) and rows[-1]["step"] >= step


def complete_checkpoints(workdir: Path) -> list[str]:
    return [name for name in os.listdir(workdir / "checkpoints") if name.isdigit()]


def assert_same_run(one: Path, other: Path) -> None:
    jax.tree.map(np.testing.assert_array_equal, final_params(one), final_params(other))
    assert without_timings(metrics.read(one)) == without_timings(metrics.read(other))
    summaries = [read_json(path / "summary.json") for path in (one, other)]
    assert without_timings(summaries)[0] == without_timings(summaries)[1]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("uninterrupted")
    pretrain.run(pretrain_config(**RUN), Workdir(path), overview=False)
    return path


def test_killed_and_resumed_run_is_bit_identical(uninterrupted, tmp_path):
    # While the first checkpoint is written, and once politely.
    process = start(tmp_path)
    wait_until(lambda: writing_a_checkpoint(tmp_path), process)
    process.kill()
    process.wait()
    assert reached(tmp_path, 1) and not (tmp_path / "summary.json").exists()

    process = start(tmp_path)
    wait_until(lambda: reached(tmp_path, 18), process)
    process.send_signal(signal.SIGTERM)
    _, printed = process.communicate()
    assert process.returncode == 0
    assert "stopped by SIGTERM" in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "summary.json").exists()

    done = run_command("pretrain", *arguments("pretrain/digits.py", tmp_path, **RUN))
    assert done.returncode == 0, done.stderr
    assert "resuming after step" in done.stderr
    assert_same_run(uninterrupted, tmp_path)
    # Nothing half-written is left behind.
    assert not writing_a_checkpoint(tmp_path)


def test_another_seed_is_another_run(uninterrupted, tmp_path):
    """That one seed is one run, a run shows that is killed and resumed."""
    # Its first step says all: other weights make another gradient.
    first = dict(train__total_steps=3, train__eval_every=3, train__checkpoint_every=3)
    pretrain.run(pretrain_config(**(RUN | first), seed=1), Workdir(tmp_path), overview=False)
    norms = [metrics.read(path)[0]["train/grad_norm"] for path in (uninterrupted, tmp_path)]
    assert norms[0] != norms[1]


def test_only_the_newest_checkpoints_are_kept(uninterrupted):
    assert sorted(map(int, complete_checkpoints(uninterrupted))) == [64, 72, 80]


def test_a_complete_run_is_not_run_again(uninterrupted, capsys):
    before = (uninterrupted / "summary.json").read_bytes()
    pretrain.run(pretrain_config(**RUN), Workdir(uninterrupted), overview=False)
    assert "complete already" in capsys.readouterr().err
    assert (uninterrupted / "summary.json").read_bytes() == before
