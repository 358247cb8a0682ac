"""Files of sources in this machine's file system."""

import contextlib
import errno
import functools
import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from distill.data.sources.image_index import Shard
from distill.data.sources.reading import persistently, read_file
from distill.data.sources.storage import Entries, Status, changed
from distill.paths import check_reachable

_DANGLING, _UNREADABLE, _SPECIAL = "dangling link", "unreadable folder", "special file"
_FILE, _FOLDER = "file", "folder"


class LocalFiles:
    """See `Storage`."""

    is_remote = False

    def check_reachable(self, path: str, what: str) -> None:
        """Checks that the path could be one."""
        check_reachable(Path(path), what)

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder, or a link."""
        return os.path.lexists(path)

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder, or a link to one."""
        return os.path.isdir(path)

    def missing(self, paths: Iterable[str]) -> list[str]:
        """The paths at which there is no file."""
        return [path for path in paths if not os.path.isfile(path)]

    def names(self, folder: str) -> list[str]:
        """What files and folders in a folder are called."""
        return os.listdir(folder)

    def entries(self, folder: str) -> Entries:
        """What lies in a folder; one that may not be listed is left out.

        Links are what they lead to.

        Raises:
          RunFailed: if the system fails to list it.
        """
        return persistently(lambda: _entries(folder), folder)

    def identity(self, folder: str) -> tuple[int, int]:
        """Device and inode."""
        status = persistently(lambda: os.stat(folder), folder)
        return status.st_dev, status.st_ino

    def matching(self, pattern: str) -> list[str]:
        """The paths that a pattern stands for, sorted."""
        return sorted(glob.glob(pattern))

    def status(self, path: str) -> Status:
        """Size and time of change."""
        status = persistently(functools.partial(os.stat, path), path)
        return Status(status.st_size, status.st_mtime_ns)

    def known(self, path: str) -> Status:
        """Size and time of change."""
        return self.status(path)

    def has_size(self, path: str, size: int) -> bool:
        """Whether there is a file of this size."""
        try:
            return os.stat(path).st_size == size
        except OSError:
            return False

    def local_copy(self, path: str, place: str) -> str:
        """Its own path."""
        return path

    def open(self, path: str) -> BinaryIO:
        """The file."""
        return open(path, "rb")

    def read(self, path: str) -> bytes:
        """The file's content."""
        return read_file(path)

    def read_part(self, path: str, shard: Shard, offset: int, length: int) -> bytes:
        """A part of a shard.

        Raises:
          RunFailed: if it has changed, or the system cannot read it.
        """
        return persistently(lambda: _read_part(path, shard, offset, length), path)

    def read_end(self, path: str, shard: Shard, length: int) -> bytes:
        """The last bytes of a shard."""
        size = min(length, shard.size)
        return self.read_part(path, shard, shard.size - size, size)

    def end(self, path: str, shard: Shard, least: int) -> int:
        """The size of a shard."""
        return shard.size

    @contextlib.contextmanager
    def opened(self, path: str, shard: Shard) -> Iterator["_LocalFile"]:
        """The shard, open.

        Raises:
          RunFailed: if it has changed.
          OSError: if it cannot be read; whoever opened it tries again.
        """
        file = os.open(path, os.O_RDONLY)
        try:
            check_unchanged(path, shard, os.fstat(file))
            yield _LocalFile(file, shard.size)
        finally:
            os.close(file)

    def seekable(self, path: str, shard: Shard) -> str:
        """The path."""
        check_unchanged(path, shard, os.stat(path))
        return path

    def index_place(self, root: str, name: str) -> str:
        """A hidden file."""
        return os.path.join(root, f".distill-{name}")

    def real(self, path: str) -> str:
        """The path without links."""
        return os.path.realpath(path)


class _LocalFile:
    def __init__(self, descriptor: int, size: int):
        self.size = size
        self._descriptor = descriptor

    def read(self, size: int, offset: int) -> bytes:
        return os.pread(self._descriptor, size, offset)

    def reaches(self, end: int) -> bool:
        return end <= self.size


def _entries(folder: str) -> Entries:
    try:
        found = os.scandir(folder)
    except PermissionError:
        return Entries([], [], {_UNREADABLE: 1})
    with found:
        # Of what is neither, links may lead to files and folders.
        files, others = [], []
        for entry in found:
            if entry.is_file(follow_symlinks=False):
                files.append(entry.name)
            else:
                others.append(entry)
    folders, left_out = [], Counter()
    for entry in others:
        kind = _kind(entry)
        if kind == _FILE:
            files.append(entry.name)
        elif kind == _FOLDER:
            folders.append(entry.name)
        elif not entry.name.startswith("."):
            left_out[kind] += 1
    return Entries(folders, files, left_out)


def _kind(entry: os.DirEntry) -> str:
    try:
        if entry.is_file():
            return _FILE
        if entry.is_dir():
            return _FOLDER
    except OSError as error:
        # A link to itself, or to where nobody may look.
        if error.errno in (errno.ELOOP, errno.EACCES):
            return _DANGLING
        raise
    return _DANGLING if entry.is_symlink() else _SPECIAL


def _read_part(path: str, shard: Shard, offset: int, length: int) -> bytes:
    # Without Python's file object, which takes longer than reading a small image.
    file = os.open(path, os.O_RDONLY)
    try:
        check_unchanged(path, shard, os.fstat(file))
        data = os.pread(file, length, offset)
        while len(data) < length and (
            more := os.pread(file, length - len(data), offset + len(data))
        ):
            data += more
    finally:
        os.close(file)
    if len(data) < length:
        raise OSError(f"{length:,} bytes were expected at {offset:,}, and {len(data):,} are there")
    return data


def check_unchanged(path: str, shard: Shard, status: os.stat_result) -> None:
    """Checks that a shard is as it was when it was indexed.

    Raises:
      RunFailed: if it is not.
    """
    if status.st_size != shard.size or shard.mtime_ns not in (0, status.st_mtime_ns):
        raise changed(
            path,
            f"it had {shard.size:,} bytes and has {status.st_size:,}, or was written to",
        )
