"""Runs of two processes, on a mixture of formats, are those of one, and survive the loss of one."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mixed_data import three_formats
from processes import complete, ended, output, saved, start, wait_for_a_checkpoint
from support import arguments, pretrain_config, run_python, without_timings

from distill.errors import UserError
from distill.json_files import read_json
from distill.parallel import distributed, last_words
from distill.train import metrics
from distill.train.workdir import Workdir, read_config
from pipelines import pretrain

STEPS = 24
RUN = dict(
    train__total_steps=STEPS,
    train__log_every=1,
    # Of each kind, fifteen batches six times.
    train__eval_every=4,
    train__checkpoint_every=6,
    train__batch_size=16,
    train__example_images=24,
    model__depth=1,
    model__unroll=False,
    loss__mixup=0.2,
    evals__val__per_class=True,
    evals__sure__kind="calibration",
    evals__sure__held_out=0.0,
    evals__robust__kind="corruptions",
    evals__robust__corruptions="('contrast',)",
    evals__robust__severities="(2,)",
)
EIGHT = RUN | dict(mesh__data=2, mesh__fsdp=2, mesh__tensor=2)
FOUR = RUN | dict(mesh__data=1, mesh__fsdp=2, mesh__tensor=2)


@pytest.fixture(scope="module")
def mixture(tmp_path_factory) -> dict[str, object]:
    return three_formats(tmp_path_factory.mktemp("mixture"))


def flags(workdir: Path, mixture: dict[str, object], run: dict) -> list[str]:
    return arguments("pretrain/digits.py", workdir, **run, **mixture)


def assert_close(workdir: Path, reference: Path) -> None:
    rows, expected = (without_timings(metrics.read(path)) for path in (workdir, reference))
    assert [row.keys() for row in rows] == [row.keys() for row in expected]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    for name in ("train/loss", "train/grad_norm", "val/cross_entropy", "sure/nll"):
        found, wanted = (metrics.series(r, name)[1] for r in (rows, expected))
        assert len(found)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, err_msg=name)
    for name in ("sure/accuracy", "robust/contrast"):
        found, wanted = (metrics.series(r, name)[1] for r in (rows, expected))
        assert len(found) and found.tolist() == wanted.tolist()


@pytest.fixture(scope="module")
def one_device(tmp_path_factory, mixture) -> Path:
    workdir = tmp_path_factory.mktemp("one")
    pretrain.run(pretrain_config(**RUN, **mixture), Workdir(workdir), overview=False)
    return workdir


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory, mixture) -> Path:
    """Ended at the first try: evaluations do not block each other, nor steps."""
    workdir = tmp_path_factory.mktemp("two") / "run"
    codes = ended(workdir, start(workdir, flags(workdir, mixture, EIGHT), 2), timeout=500)
    assert codes == [0, 0], output(workdir, codes.index(max(codes))).read_text()
    return workdir


@pytest.mark.slow
def test_two_processes_of_four_devices_compute_what_one_device_does(one_device, two_processes):
    assert_close(two_processes, one_device)
    assert len(set(metrics.series(metrics.read(one_device), "train/loss")[1])) > STEPS // 2


def of_classes(workdir: Path) -> list[dict[str, float]]:
    """What every evaluation read off the confusion matrix."""
    rows = metrics.read(workdir)
    found = [{k: v for k, v in row.items() if k.startswith("val/per_class/")} for row in rows]
    return [row for row in found if row]


@pytest.mark.slow
def test_two_processes_count_the_classes_that_one_does(one_device, two_processes):
    expected = of_classes(one_device)
    assert of_classes(two_processes) == expected
    # Ten classes and two means.
    assert {len(row) for row in expected} == {12}
    assert expected[-1]["val/per_class/mean_iou"] > 0


@pytest.mark.slow
def test_two_processes_keep_the_examples_that_one_does(one_device, two_processes):
    found, expected = (read_json(path / "examples.json") for path in (two_processes, one_device))
    for name in ("name", "label", "samples", "pictures", "classes"):
        assert found[name] == expected[name]
    np.testing.assert_allclose(found["probabilities"], expected["probabilities"], rtol=1e-3)
    assert len(found["label"]) == 24


@pytest.mark.slow
def test_only_the_first_process_writes_and_talks(two_processes):
    assert len(list(two_processes.glob("events.out.tfevents.*"))) == 1
    assert {"config.json", "summary.json", "report.html"} <= set(os.listdir(two_processes))
    primary, other = (output(two_processes, process).read_text() for process in range(2))
    assert "8 cpu device(s) of 2 processes" in primary and f"{STEPS}/{STEPS}" in primary
    # Gloo, which carries what processes tell each other on CPUs, has its own say, from several
    # threads at once, so that its lines may be cut into each other.
    gloo = r"\[Gloo\] Rank|is connected to|(connected )?peer ranks\.?|Expected number of|is :|\d+"
    assert re.sub(gloo, "", other).split() == []


@pytest.mark.slow
def test_evaluations_of_many_batches_do_not_block_each_other(two_processes):
    """Eighteen of them, of fifteen batches each. A run that hangs is not started again here."""
    rows = metrics.read(two_processes)
    for name in ("val/accuracy", "sure/accuracy", "robust/contrast"):
        assert [row["step"] for row in rows if name in row] == list(range(4, STEPS + 1, 4))


@pytest.mark.slow
def test_run_that_lost_a_process_resumes_bit_for_bit_and_on_fewer_devices(
    two_processes, one_device, mixture, tmp_path
):
    workdir = tmp_path / "run"
    processes = start(workdir, flags(workdir, mixture, EIGHT), 2)
    wait_for_a_checkpoint(workdir, processes)
    processes[1].kill()
    codes = ended(workdir, processes, timeout=120)
    assert codes[1] == -signal.SIGKILL and codes[0] != 0
    told = output(workdir, 0).read_text()
    assert "process 0 of 2: error: ended early: another process of the run was lost" in told
    step = saved(workdir)[-1]
    assert f"run the same command again on all processes to resume from step {step}" in told
    assert "process 1 of 2: error: ended early" in output(workdir, 1).read_text()
    assert not (workdir / "summary.json").exists()

    fewer = tmp_path / "fewer"
    shutil.copytree(workdir, fewer)
    complete(workdir, flags(workdir, mixture, EIGHT), 2)
    assert f"resuming after step {step}" in output(workdir, 0).read_text()
    rows, expected = (without_timings(metrics.read(path)) for path in (workdir, two_processes))
    assert rows == expected
    summaries = [read_json(path / "summary.json") for path in (workdir, two_processes)]
    assert without_timings(summaries)[0] == without_timings(summaries)[1]

    # What two processes of four devices saved goes on in one process of four.
    complete(fewer, flags(fewer, mixture, FOUR), 1, 4)
    assert "resuming after step" in output(fewer, 0).read_text()
    mesh = read_config(fewer)["mesh"]
    assert {axis: mesh[axis] for axis in ("data", "fsdp", "tensor")} == {
        "data": 1,
        "fsdp": 2,
        "tensor": 2,
    }
    assert_close(fewer, one_device)


@pytest.mark.slow
def test_damage_of_what_one_process_wrote_ends_both_and_is_left_behind(
    two_processes, mixture, tmp_path
):
    workdir = tmp_path / "run"
    shutil.copytree(two_processes, workdir)
    newest, older = saved(workdir)[:-3:-1]
    written = workdir / "checkpoints" / str(newest) / "params" / "ocdbt.process_1"
    file = max(written.rglob("*"), key=lambda one: one.stat().st_size * one.is_file())
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    codes = ended(workdir, start(workdir, flags(workdir, mixture, EIGHT), 2), timeout=500)
    assert codes == [1, 1]
    for process in range(2):
        told = output(workdir, process).read_text()
        assert f"the checkpoint of step {newest} in {workdir} is damaged" in told
        assert f"--resume_from={older}" in told
    again = [*flags(workdir, mixture, EIGHT), f"--resume_from={older}"]
    complete(workdir, again, 2)
    rows, expected = (without_timings(metrics.read(path)) for path in (workdir, two_processes))
    assert rows == expected


@pytest.mark.parametrize(
    "flags, message",
    [
        (dict(processes=2), "--coordinator=HOST:PORT, --processes=N and --process=I belong"),
        (dict(coordinator="h:1", processes=2), "belong together"),
        (dict(coordinator="h:1", processes=2, process=2), "--process must be one of 0 to 1"),
        (dict(coordinator="h", processes=2, process=0), "must be HOST:PORT"),
        (dict(coordinator="h:99999", processes=2, process=0), "must be HOST:PORT"),
        (dict(cluster=True, process=0), "leave out --process, or leave out --distributed"),
    ],
)
def test_contradictory_flags_are_refused(flags, message):
    with pytest.raises(UserError) as caught:
        distributed.join(**flags)
    assert message in str(caught.value)


def test_without_flags_there_is_one_process_that_agrees_with_itself():
    distributed.join()
    assert distributed.is_primary() and not distributed.several()
    assert distributed.agree(7) == 7
    assert distributed.total(3, 4) == (3, 4)
    assert not distributed.stop_agreed(1)
    distributed.leave(1)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--distributed"], "found no cluster in the environment"),
        (
            ["--coordinator=127.0.0.1:1", "--processes=2", "--process=1", "--start_timeout=1"],
            "nobody answers at --coordinator=127.0.0.1:1",
        ),
    ],
)
def test_processes_that_do_not_meet_say_so_and_end(flags, message, tmp_path):
    done = run_python("-m", "pipelines.evaluate", f"--workdir={tmp_path}", *flags)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr


def say_last_words(told: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, last_words.__file__, *arguments],
        input=told,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout + done.stderr


def test_last_words_are_said_unless_the_process_ended_knowingly(tmp_path):
    name = "process 3 of 4"
    assert say_last_words("done", name, str(tmp_path)) == ""
    assert "begin anew, as nothing was saved yet" in say_last_words("", name, str(tmp_path))
    for folder in ("9", "10", "11.orbax-checkpoint-tmp-1"):
        (tmp_path / "checkpoints" / folder).mkdir(parents=True)
    told = say_last_words("", name, str(tmp_path))
    assert told.startswith(f"{name}: error: ") and told.endswith("to resume from step 10\n")
    assert "resume" not in say_last_words("", name)
