"""Files of sources in buckets: objects, whose names say in which folders they lie."""

import bisect
import contextlib
import errno
import fnmatch
import functools
import hashlib
import io
import itertools
import os
import posixpath
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from absl import logging

from distill.buckets.bucket import Bucket, Part
from distill.data.sources.base import printable
from distill.data.sources.image_index import UNKNOWN, Shard, write_whole
from distill.data.sources.storage import Entries, Status, changed
from distill.data.sources.together import once
from distill.errors import RunFailed, UserError
from distill.paths import has_control

_BLOCK = 2**22
# Blocks of an object that is indexed which are on their way while one is looked at.
_AHEAD = 2
# Seconds before a line says that a list takes long.
_PATIENCE = 5.0
ODD = "object whose name is no path"
"""What is left out for its name."""
_SPECIAL = re.compile(r"[*?\[]")


@functools.cache
def bucket_files(url: str) -> "BucketFiles":
    """Those of the bucket of this URL, opened once in a process."""
    return BucketFiles(url)


class BucketFiles:
    """See `Storage`; paths begin with the bucket's URL.

    Args:
      url: of the bucket, such as `s3://bucket`.
    """

    is_remote = True

    def __init__(self, url: str):
        self._url = url
        self._bucket = Bucket(url)

    def __reduce__(self):
        return bucket_files, (self._url,)

    def _name(self, path: str) -> str:
        """The object's name, or the folder's."""
        name = posixpath.normpath(path[len(self._url) + 1 :])
        return "" if name == "." else name

    def check_reachable(self, path: str, what: str) -> None:
        """Nothing: a path in a bucket is any text."""

    def exists(self, path: str) -> bool:
        """Whether there is an object, or any below this path."""
        return self._bucket.generation(self._name(path)) is not None or self.is_folder(path)

    def is_folder(self, path: str) -> bool:
        """Whether there are objects below this path."""
        return self._listed(path).has_folder(self._name(path))

    def missing(self, paths: Iterable[str]) -> list[str]:
        """The paths at which there is no object."""
        paths = list(paths)
        if len(paths) == 1:
            gone = self._bucket.generation(self._name(paths[0])) is None
            return paths if gone else []
        names = [*map(self._name, paths)]
        # What the first and the last of all have in common, all have.
        there = {*self._bucket.names(_common(min(names), max(names)))}
        return [path for path, name in zip(paths, names, strict=True) if name not in there]

    def names(self, folder: str) -> list[str]:
        """What files and folders in a folder are called."""
        found = self.entries(folder)
        return list(dict.fromkeys([*found.folders, *found.files]))

    def entries(self, folder: str) -> Entries:
        """What lies in a folder, all below which is listed."""
        return self._listed(folder).entries(self._name(folder))

    def identity(self, folder: str) -> str:
        """The path: there are no links."""
        return folder

    def matching(self, pattern: str) -> list[str]:
        """The paths that a pattern stands for, sorted."""
        name = self._name(pattern)
        special = _SPECIAL.search(name)
        names = self._bucket.names(name[: special.start()] if special else name)
        parts = name.split("/")
        return [
            f"{self._url}/{one}" for one in names if _match(one.split("/"), parts) and _is_path(one)
        ]

    def status(self, path: str) -> Status:
        """The object's version."""
        generation = self._bucket.generation(self._name(path))
        if generation is None:
            raise _gone(path)
        return Status(UNKNOWN, _version(generation))

    def known(self, path: str) -> Status:
        """Nothing."""
        return Status(UNKNOWN, 0)

    def has_size(self, path: str, size: int) -> bool:
        """Whether there is an object of this size."""
        rest = self._bucket.read_rest(self._name(path), size - 1)
        return rest is not None and len(rest.content) == 1

    def local_copy(self, path: str, place: str) -> str:
        """The path of the copy."""
        if os.path.exists(place):
            return place
        content = self.read(path)
        try:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            write_whole(place, [content])
        except OSError as error:
            raise UserError(
                f"a copy of {printable(path)} cannot be written to {printable(place)}: "
                f"{error.strerror}. Set XDG_CACHE_HOME to a directory that can be written"
            ) from error
        return place

    def open(self, path: str) -> BinaryIO:
        """The object, read whole."""
        content = self._bucket.read(self._name(path))
        if content is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return io.BytesIO(content)

    def read(self, path: str) -> bytes:
        """The object's content."""
        content = self._bucket.read(self._name(path))
        if content is None:
            raise _gone(path)
        return content

    def read_part(self, path: str, shard: Shard, offset: int, length: int) -> bytes:
        """A part of a shard, by one request.

        Raises:
          RunFailed: if it has changed.
        """
        ask = self._bucket.ask(self._name(path), offset, offset + length)
        data = _unchanged(path, shard, ask()) if length else b""
        if len(data) < length:
            raise changed(path, f"it ends at byte {offset + len(data):,}")
        return data

    def read_end(self, path: str, shard: Shard, length: int) -> bytes:
        """The last bytes of a shard, by one request."""
        return _unchanged(path, shard, self._bucket.read_end(self._name(path), length))

    def end(self, path: str, shard: Shard, least: int) -> int:
        """The size of a shard, by reading what lies behind `least`."""
        rest = self._bucket.read_rest(self._name(path), least)
        return least + len(_unchanged(path, shard, rest))

    @contextlib.contextmanager
    def opened(self, path: str, shard: Shard) -> Iterator["_Blocks"]:
        """The shard, read in blocks of 4 MiB, some ahead."""
        name = self._name(path)

        def ask(start: int, stop: int | None) -> Callable[[], bytes]:
            if stop is None:
                return lambda: _unchanged(path, shard, self._bucket.read_rest(name, start))
            wait = self._bucket.ask(name, start, stop)
            return lambda: _unchanged(path, shard, wait())

        yield _Blocks(ask)

    def seekable(self, path: str, shard: Shard) -> "_Seekable":
        """A file object, each read of which is a request."""
        return _Seekable(self, path, shard)

    def index_place(self, root: str, name: str) -> None:
        """None: nothing is written beside data in a bucket."""

    def real(self, path: str) -> str:
        """The path."""
        return path

    def _listed(self, folder: str) -> "_Objects":
        """The objects below a folder, or below one that it lies in, which was listed before."""
        # Of each prefix that was listed, the objects.
        kept: dict[str, _Objects] = once("prefixes of buckets", dict)
        name = self._name(folder)
        prefix = f"{name}/" if name else ""
        url = f"{self._url}/{prefix}"
        for known, objects in kept.items():
            if url.startswith(known):
                return objects
        line = "listing %s, 1,000 objects with each request"
        waiting = threading.Timer(_PATIENCE, logging.warning, (line, printable(url)))
        waiting.start()
        try:
            kept[url] = _Objects(self._bucket.names(prefix))
        finally:
            waiting.cancel()
        return kept[url]


class _Objects:
    """Names of objects, sorted, as folders and files."""

    def __init__(self, names: list[str]):
        self._names = names

    def has_folder(self, folder: str) -> bool:
        """Whether anything lies below it."""
        if not folder:
            return bool(self._names)
        place = bisect.bisect_left(self._names, f"{folder}/")
        return place < len(self._names) and self._names[place].startswith(f"{folder}/")

    def entries(self, folder: str) -> Entries:
        """What lies in it."""
        prefix = f"{folder}/" if folder else ""
        folders, files, others = [], [], Counter()
        names = self._names
        place = bisect.bisect_left(names, prefix)
        while place < len(names) and names[place].startswith(prefix):
            first, slash, _ = names[place][len(prefix) :].partition("/")
            place += 1
            stop = place
            if slash:
                # All names with this slash come before those with the character after it.
                stop = bisect.bisect_left(names, f"{prefix}{first}0", place - 1)
            # The object that stands for the folder itself says nothing.
            if first or slash:
                if not _is_path(first):
                    others[ODD] += stop - place + 1 if slash else 1
                else:
                    (folders if slash else files).append(first)
            place = stop
        return Entries(folders, files, others)


def _common(one: str, other: str) -> str:
    """What two texts both begin with."""
    pairs = zip(one, other, strict=False)
    return "".join(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _is_path(name: str) -> bool:
    """Whether an object's name, or a part of it, can be that of files in folders."""
    return not has_control(name) and all(part not in ("", ".", "..") for part in name.split("/"))


def _match(parts: list[str], pattern: list[str]) -> bool:
    """Whether folders and file are as the pattern has them; what is hidden has to be named."""
    return len(parts) == len(pattern) and all(
        fnmatch.fnmatchcase(part, one) and (not part.startswith(".") or one.startswith("."))
        for part, one in zip(parts, pattern, strict=True)
    )


def _version(generation: bytes) -> int:
    """A number that JSON and NumPy hold exactly; not 0, which means that it is not looked at."""
    return int.from_bytes(hashlib.blake2b(generation, digest_size=6).digest()) or 1


def _gone(path: str) -> RunFailed:
    return RunFailed(f"there is no object {printable(path)}, or no longer")


def _unchanged(path: str, shard: Shard, part: Part | None) -> bytes:
    """The content of a part of a shard that is as it was.

    Raises:
      RunFailed: if it is not.
    """
    if part is None:
        raise _gone(path)
    if shard.mtime_ns not in (0, _version(part.generation)):
        raise changed(path, "it was written anew")
    return part.content


class _Blocks:
    """An object in blocks, of which some are on their way."""

    def __init__(self, ask: Callable[[int, int | None], Callable[[], bytes]]):
        self.size = 0
        self._ended = False
        self._ask = ask
        self._blocks: dict[int, Callable[[], bytes]] = {}

    def read(self, size: int, offset: int) -> bytes:
        """A part of the object, shorter where it ends."""
        first, last = offset // _BLOCK, max(offset + size - 1, offset) // _BLOCK
        if first == last:
            start = offset - first * _BLOCK
            return self._block(first)[start : start + size]
        data = b"".join(map(self._block, range(first, last + 1)))
        return data[offset - first * _BLOCK :][:size]

    def reaches(self, end: int) -> bool:
        """Whether the object has so many bytes."""
        if end > self.size and not self._ended:
            self._block((end - 1) // _BLOCK)
        return end <= self.size

    def _block(self, number: int) -> bytes:
        # The header of a member may lie across two blocks, and is looked at again.
        for known in [one for one in self._blocks if not number - 1 <= one <= number + _AHEAD]:
            del self._blocks[known]
        for one in range(number, number + (1 if self._ended else 1 + _AHEAD)):
            if one not in self._blocks:
                self._blocks[one] = functools.cache(self._ask(one * _BLOCK, (one + 1) * _BLOCK))
        block = self._blocks[number]()
        if not self._ended:
            self._note(number * _BLOCK, block)
        return block

    def _note(self, start: int, block: bytes) -> None:
        """Takes up how far the object reaches."""
        if block:
            self.size = max(self.size, start + len(block))
        elif self.size < start:
            self.size += len(self._ask(self.size, None)())
        self._ended = len(block) < _BLOCK


class _Seekable(io.RawIOBase):
    """A shard of known size as a file object."""

    def __init__(self, files: BucketFiles, path: str, shard: Shard):
        self._files, self._path, self._shard = files, path, shard
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence, self._shard.size)
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = self._shard.size - self._at
        length = left if size < 0 else min(size, left)
        data = self._files.read_part(self._path, self._shard, self._at, length)
        self._at += length
        return data
