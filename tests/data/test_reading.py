"""What the system refuses is tried again, and is not a corrupt image."""

import errno
import os

import pytest

from distill.data import open_source
from distill.data.sources import reading
from distill.errors import RunFailed

FAULTS = ("EMFILE", "EIO", "ESTALE", "ETIMEDOUT", "EACCES", "ENOMEM", "ENOENT")


class Failing:
    """Stands for `open` of a system that fails so many times."""

    def __init__(self, fault, times):
        self.left, self.number = times, getattr(errno, fault)

    def __call__(self, path, mode):
        if not self.left:
            return open(path, mode)
        self.left -= 1
        raise OSError(self.number, os.strerror(self.number), path)


def fail(monkeypatch, fault, times):
    monkeypatch.setattr(reading, "open", Failing(fault, times), raising=False)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "train" / "x" / "i.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"content")
    return path


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_is_tried_again(monkeypatch, file, fault):
    fail(monkeypatch, fault, 3)
    waited = []
    assert reading.read_file(str(file), waited.append) == b"content"
    assert waited == sorted(waited) and len(waited) == 3 and 2 < sum(waited) < 5


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_cannot_be_read_stops_the_run_with_the_systems_reason(monkeypatch, file, fault):
    fail(monkeypatch, fault, 4)
    with pytest.raises(RunFailed) as caught:
        reading.read_file(str(file), lambda seconds: None)
    assert caught.value.exit_code == 1
    assert f"{file} cannot be read: {os.strerror(getattr(errno, fault))}" in str(caught.value)
    assert "Check the disk" in str(caught.value)


def test_a_file_that_has_gone_is_not_a_corrupt_image(monkeypatch, file):
    monkeypatch.setattr(reading, "_PAUSES", ())
    source = open_source("folder:" + str(file.parents[2]), "train", channels=3)
    file.unlink()
    with pytest.raises(RunFailed, match="No such file"):
        source.read(0)


def test_a_folder_that_cannot_be_listed_is_not_passed_over(monkeypatch, file):
    monkeypatch.setattr(reading, "_PAUSES", ())

    def broken(path):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)

    monkeypatch.setattr(os, "scandir", broken)
    with pytest.raises(RunFailed, match="Stale file handle"):
        open_source("folder:" + str(file.parents[2]), "train", channels=3)


def test_a_folder_that_may_not_be_listed_is_left_out_and_said(monkeypatch, file):
    (file.parents[1] / "private").mkdir()
    real = os.scandir

    def guarded(path):
        if str(path).endswith("private"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", guarded)
    source = open_source("folder:" + str(file.parents[2]), "train", channels=3)
    assert source.found == (
        "1 image in 2 classes; no images of private; left out 1 unreadable folder"
    )
