"""What cannot be written is one message, whichever library met it, and nothing half-written."""

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import REPOSITORY

from distill import json_files, unwritten
from distill.errors import RunFailed, UserError
from distill.report import html
from distill.train.left import stands, writing_to
from distill.train.memory import is_out_of_memory
from distill.train.metrics import MetricsLog, read

GO_ON = "Run the same command again"


@pytest.fixture
def small_files():
    """No file may be longer than 100 bytes: writing beyond is EFBIG."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize(
    ("code", "to_do"),
    [
        (errno.ENOSPC, "No space left on device; free space there"),
        (errno.EDQUOT, "Disk quota exceeded; free space there, or have your quota raised"),
        (errno.EROFS, "Read-only file system; have the file system mounted for writing"),
        (errno.EFBIG, "File too large"),
    ],
)
def test_the_systems_errors_say_file_reason_and_what_to_do(code, to_do):
    error = OSError(code, os.strerror(code), "/runs/a/metrics.jsonl")
    found = unwritten.cannot_write(error, GO_ON)
    assert found is not None and found.exit_code == 1
    assert str(found).startswith(f"/runs/a/metrics.jsonl cannot be written: {to_do}")
    assert str(found).endswith(GO_ON)


def test_what_libraries_say_in_their_own_errors_is_understood():
    text = (
        'RESOURCE_EXHAUSTED: Error writing "2.kernel/0.0" in OCDBT database at local file '
        '"/runs/a/checkpoints/40.orbax-checkpoint-tmp/optimizer.orbax-checkpoint-tmp/ocdbt.0/": '
        "Failed to write 39251 bytes to file 7: No space left on device [os_error_code='28']"
    )
    found = unwritten.cannot_write(ValueError(text), GO_ON)
    assert str(found).startswith("/runs/a/checkpoints/40 cannot be written: No space left on")
    wrapped = RuntimeError("a thread failed")
    wrapped.__cause__ = ExceptionGroup("several", [KeyError("x"), ValueError(text)])
    assert str(unwritten.cannot_write(wrapped, GO_ON)) == str(found)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a shape is wrong"),
        OSError(errno.ENOENT, "No such file or directory", "/data/a.png"),
        OSError(errno.EACCES, "Permission denied", "/data/a.png"),
        ValueError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes"),
        KeyboardInterrupt(),
    ],
)
def test_other_errors_are_left_alone(error):
    assert unwritten.cannot_write(error, GO_ON, Path("/runs/a")) is None


def test_rights_count_where_something_is_written(tmp_path):
    error = OSError(errno.EACCES, "Permission denied", str(tmp_path / "checkpoints" / "4"))
    assert "give yourself the right" in str(unwritten.cannot_write(error, GO_ON, tmp_path))
    with pytest.raises(OSError) as caught, unwritten.naming("/elsewhere/x"):
        raise OSError(errno.EMFILE, "Too many open files")
    assert "/elsewhere/x cannot be written" in str(unwritten.cannot_write(caught.value, GO_ON))


def test_a_full_disk_is_not_taken_for_full_memory():
    import jax

    error = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: x: No space left on device")
    assert not is_out_of_memory(error)
    assert is_out_of_memory(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"))


def test_nothing_is_left_of_a_file_that_found_no_room(small_files, tmp_path):
    file = tmp_path / "a.json"
    json_files.write_json(file, {"a": 1})
    for write in (
        lambda: json_files.write_json(file, {"a": "x" * 1000}),
        lambda: html.write(file, "x" * 1000),
    ):
        with pytest.raises(OSError) as caught:
            write()
        assert caught.value.filename == str(file)
        assert os.listdir(tmp_path) == ["a.json"] and json_files.read_json(file) == {"a": 1}


def test_a_line_that_found_no_room_leaves_the_lines_before(small_files, tmp_path):
    file = tmp_path / "evaluations.jsonl"
    json_files.append_json_line(file, {"a": 1})
    with pytest.raises(OSError) as caught:
        json_files.append_json_line(file, {"a": "x" * 1000})
    assert caught.value.filename == str(file)
    json_files.append_json_line(file, {"b": 2})
    assert json_files.read_json_lines(file) == [{"a": 1}, {"b": 2}]


def test_metrics_that_found_no_room_are_whole_and_are_written_again(tmp_path, request):
    log = MetricsLog(tmp_path, resume_step=-1)
    log.write(1, {"loss": 1.0})
    request.getfixturevalue("small_files")
    with pytest.raises(OSError) as caught:
        log.write(2, {f"metric/{number}": 1.0 for number in range(20)})
    assert caught.value.filename == str(tmp_path / "metrics.jsonl")
    log.close()
    assert read(tmp_path) == [{"step": 1, "loss": 1.0}]


def test_events_that_cannot_be_written_stop_nothing(tmp_path, monkeypatch, caplog):
    log = MetricsLog(tmp_path, resume_step=-1)
    log.write(1, {"loss": 1.0})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(log._others["tensorboard"], "write", full)
    with caplog.at_level("WARNING"):
        for step in (2, 3):
            log.write(step, {"loss": 1.0})
    log.close()
    assert [row["step"] for row in read(tmp_path)] == [1, 2, 3]
    assert caplog.text.count("tensorboard gets nothing more of this run") == 1


def test_the_message_says_which_step_stands(tmp_path):
    def fail(error: Exception):
        with writing_to(lambda: tmp_path):
            raise error

    full = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "x"))
    with pytest.raises(RunFailed, match="Nothing was saved yet"):
        fail(full)
    for step in ("8", "12", "16.orbax-checkpoint-tmp"):
        (tmp_path / "checkpoints" / step).mkdir(parents=True)
    with pytest.raises(RunFailed, match="Step 12 is saved: run the same command again"):
        fail(full)
    with pytest.raises(UserError, match=r"^mine$"):
        fail(UserError("mine"))
    with pytest.raises(KeyError):
        fail(KeyError("x"))
    for student, step in (("a", "20"), ("b", "10")):
        (tmp_path / "both" / student / "checkpoints" / step).mkdir(parents=True)
    assert stands(tmp_path / "both").startswith("Step 10 is saved")
    assert stands(None) == GO_ON


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_standard_output_is_named():
    script = (
        "from distill.command.streams import keep_streams\n"
        "from distill.unwritten import explained\n"
        "keep_streams(output=False)\n"
        "with explained(lambda: 'Go on'):\n"
        "    print('x', flush=True)\n"
    )
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=REPOSITORY,
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert "CannotWrite: standard output cannot be written: No space left on device" in done.stderr
