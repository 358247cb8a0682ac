"""A run whose data cannot be read for a while loses nothing."""

import errno
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from support import arguments, final_params, run_command, without_timings

from distill.data.sources import reading
from distill.train import metrics

STEP = 4
TRAINING = dict(
    model__image_size=8,
    model__channels=3,
    model__num_classes=3,
    data__view__crop_area="(0.5, 1.0)",
    train__batch_size=8,
    train__total_steps=8,
    train__checkpoint_every=6,
    train__log_every=3,
    train__eval_every=8,
    data__max_corrupt_share=0.0,
)


def train(folder, workdir, **overrides):
    settings = TRAINING | dict(data__source=f"folder:{folder}") | overrides
    return run_command("pretrain", *arguments("pretrain/digits.py", workdir, **settings))


def checkpoints(workdir: Path) -> list[int]:
    return sorted(int(name) for name in os.listdir(workdir / "checkpoints") if name.isdigit())


@pytest.fixture(scope="module")
def whole(image_folder, tmp_path_factory):
    """The workdir of a run that met nothing."""
    path = tmp_path_factory.mktemp("whole")
    done = train(image_folder, path)
    assert done.returncode == 0, done.stderr
    return path


def test_a_run_saves_its_last_step_and_goes_on_when_the_file_is_back(
    image_folder, whole, tmp_path, monkeypatch
):
    # Batches of 8 images: 24 are an epoch, and reading ahead reaches the epochs after it.
    real, reads = reading._read, 0

    def failing(path):
        nonlocal reads
        reads += f"{os.sep}train{os.sep}" in path
        if reads > 8 * STEP:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return real(path)

    monkeypatch.setattr(reading, "_PAUSES", ())
    monkeypatch.setattr(reading, "_read", failing)
    stopped = train(image_folder, tmp_path / "stopped", data__threads=1)
    assert stopped.returncode == 1
    assert "cannot be read: Input/output error" in stopped.stderr
    assert f"Step {STEP} of 8 is saved. Run the same command to continue" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert checkpoints(tmp_path / "stopped")[-1] == STEP

    monkeypatch.undo()
    done = train(image_folder, tmp_path / "stopped")
    assert done.returncode == 0 and f"resuming after step {STEP}" in done.stderr
    both = (whole, tmp_path / "stopped")
    jax.tree.map(np.testing.assert_array_equal, *map(final_params, both))
    rows = [without_timings(metrics.read(workdir)) for workdir in both]
    assert rows[0] == rows[1]


def unreadable(path):
    """Makes a file of one that lists as a file and fails with EIO when it is read, for root too."""
    path.unlink()
    path.symlink_to("/proc/self/mem")


@pytest.fixture
def broken(image_folder, tmp_path):
    """The folder, with an unreadable training image and an unreadable test image."""
    root = shutil.copytree(image_folder, tmp_path / "broken")
    unreadable(root / "train" / "grey" / "3.jpg")
    unreadable(root / "test" / "grey" / "1.jpg")
    return root


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_threads_and_workers_say_what_cannot_be_read(broken, tmp_path, workers):
    done = train(broken, tmp_path / "run", data__workers=workers)
    assert done.returncode == 1
    said = f"error: {broken}/train/grey/3.jpg cannot be read: Input/output error (4 attempts in 3 s"
    assert said in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_evaluation_says_what_cannot_be_read(image_folder, whole, broken, workers):
    # The run is complete; its config is to name the workers.
    assert "complete already" in train(image_folder, whole, data__workers=workers).stderr
    evaluated = run_command(
        "evaluate", f"--workdir={whole}", f"--source=folder:{broken}", "--split=test"
    )
    assert evaluated.returncode == 1
    assert f"error: {broken}/test/grey/1.jpg cannot be read: Input/output" in evaluated.stderr
    assert "Traceback" not in evaluated.stderr
