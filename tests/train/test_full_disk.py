"""A run that finds no room says so in a line, leaves nothing half-written, and goes on exactly."""

import subprocess
import sys
from pathlib import Path

import pytest
from support import REPOSITORY, arguments, without_timings

from distill.json_files import read_json
from distill.train import metrics

RUN = dict(
    train__total_steps=8,
    train__log_every=1,
    train__eval_every=4,
    train__checkpoint_every=4,
    train__batch_size=16,
    train__keep_best="val/accuracy",
    train__example_images=None,
    model__depth=1,
)


def run(workdir: Path, before: str = "") -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pipelines.pretrain"]
    command += arguments("pretrain/digits.py", workdir, **RUN)
    return subprocess.run(
        ["bash", "-c", f'{before} exec "$@"', "bash", *command],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_a_checkpoint_that_finds_no_room_ends_the_run_which_then_goes_on(tmp_path):
    """No file may be longer than 12 KiB, which Orbax's threads meet in the background."""
    whole, small = tmp_path / "whole", tmp_path / "small"
    assert run(whole).returncode == 0
    done = run(small, "ulimit -f 12;")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert f"error: {small}/" in said[0] and "cannot be written: File too large" in said[0]
    assert "Nothing was saved yet. Run the same command again to begin anew" in said[0]
    assert not [one for one in small.rglob("*") if "tmp" in one.name]
    again = run(small)
    assert again.returncode == 0, again.stderr
    rows, expected = (without_timings(metrics.read(path)) for path in (small, whole))
    assert rows == expected
    found, wanted = (without_timings([read_json(one / "summary.json")]) for one in (small, whole))
    assert found == wanted
