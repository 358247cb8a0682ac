"""Directories under a temporary name, and what killed processes leave of them."""

import fcntl
import os
import subprocess
import sys
import threading

import pytest

from distill.begun import begun_directory

PREFIX = ".made-"
# Begins a directory, and is killed while it has it.
KILLED = """
import os, pathlib, signal, sys
from distill.begun import begun_directory
with begun_directory(pathlib.Path(sys.argv[1]), sys.argv[2]) as place:
    (place / "half").write_text("written")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def left(parent):
    return sorted(path.name for path in parent.iterdir())


def test_it_is_there_until_the_end_and_then_gone(tmp_path):
    with begun_directory(tmp_path, PREFIX) as place:
        (place / "file").touch()
        assert place.parent == tmp_path and place.name.startswith(PREFIX)
    assert not left(tmp_path)


def test_what_a_killed_process_left_goes_and_what_is_not_of_its_kind_stays(tmp_path):
    subprocess.run([sys.executable, "-c", KILLED, tmp_path, PREFIX], check=False)
    assert len(left(tmp_path)) == 1
    # Killed before it had its lock, or after it had taken it out.
    (tmp_path / f"{PREFIX}empty").mkdir()
    (tmp_path / "other").mkdir()
    with begun_directory(tmp_path, PREFIX) as place:
        assert left(tmp_path) == [place.name, "other"]


def test_that_of_a_living_process_stays(tmp_path):
    with begun_directory(tmp_path, PREFIX) as place:
        with begun_directory(tmp_path, PREFIX) as another:
            assert left(tmp_path) == sorted([place.name, another.name])
        assert left(tmp_path) == [place.name]


def test_one_that_is_just_being_made_stays(tmp_path):
    above = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(above, fcntl.LOCK_EX)
    made = tmp_path / f"{PREFIX}made"
    made.mkdir()
    seen = []

    def begin():
        with begun_directory(tmp_path, PREFIX):
            seen.extend(left(tmp_path))

    other = threading.Thread(target=begin)
    other.start()
    other.join(0.2)
    assert not seen
    with (made / ".in_use").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.close(above)
        other.join()
        assert made.name in seen


def test_without_locks_a_new_directory_stays(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError("no locks here")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    new, old = tmp_path / f"{PREFIX}new", tmp_path / f"{PREFIX}old"
    for one in (new, old):
        one.mkdir()
    os.utime(old, (0, 0))
    with begun_directory(tmp_path, PREFIX) as place:
        assert left(tmp_path) == sorted([place.name, new.name])


def test_a_parent_that_is_missing_is_named(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match="nowhere"),
        begun_directory(tmp_path / "nowhere", PREFIX),
    ):
        pass
