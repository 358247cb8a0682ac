"""Decoded images that a machine's processes share: `config.data.cache`.

Patient runs see an image thousands of times, and decoding it is most of the work. Here it is
decoded once, by whichever process meets it first, and its pixels are appended to a file that all
processes map; later reads copy nothing. What is kept are the very pixels, so a run is the same to
the bit with a cache, without one, or with one that is full.

A set of images is three files: `index`, a slot of 32 bytes for each image (see `_SLOT`), written
after what it stands for; `pixels`, which grows by blocks that a process has for itself; and
`usage`, the bytes of all blocks of all sets that share a bound. A set is found again by the
fingerprint of its source and its files' times of change. Slots carry a checksum of their own, and
one of the pixels, which each process compares when it first reads them: whatever a killed process,
a power failure or a disk leaves is read right or decoded again.
"""

import contextlib
import dataclasses
import fcntl
import math
import mmap
import os
import struct
import threading
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from distill.data.sources.base import Derived, Source, fingerprint_of, version_of
from distill.data.spec import Example, ExampleSpec, TextSpec
from distill.errors import RunFailed, UserError
from distill.machine import free_memory
from distill.paths import IN_MEMORY

# Offset of the example, height, width, CRC-32 of the example, which start of the machine wrote it
# (in earlier versions), nothing, and CRC-32 of all that.
_SLOT = struct.Struct("<QIIIIII")
_CHECKED = _SLOT.size - 4
_ALIGNED = 64
_BLOCK = 2**26
# Of the memory, or the file system, that is free.
_SHARE = 0.5
_GIB = 2**30
# Sizes of images of which the layout is remembered.
_SIZES = 4096

_Layout = tuple[dict[str, tuple[np.dtype, tuple[int, ...], int]], int]
"""Of each array of an example dtype, shape and place, and how many bytes all take."""


@dataclasses.dataclass(frozen=True)
class _Files:
    """Where a set lies; in memory, as paths below /proc, which workers open too."""

    index: str
    pixels: str
    usage: str
    limit: int
    """Of `usage`, in bytes."""


class DecodedImages:
    """The examples of a source that have been decoded; every process opens the files for itself.

    Args:
      files: where they are.
      spec: of the examples.
      images: how many there are, decoded or not.
    """

    def __init__(self, files: _Files, spec: ExampleSpec, images: int):
        self._files, self._spec, self._images = files, spec, images
        self._open()

    def _open(self) -> None:
        self._lock = threading.Lock()
        with self._there(), open(self._files.index, "r+b") as index:
            self._index = mmap.mmap(index.fileno(), self._images * _SLOT.size)
        self._pixels: mmap.mmap | None = None
        # Of which this process has seen that the pixels are those that were written.
        self._sound = np.zeros(self._images, bool)
        self._next = self._end = 0
        self._full = False
        self._layouts: dict[tuple[int, int], _Layout] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("_files", "_spec", "_images")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    @contextlib.contextmanager
    def _there(self) -> Iterator[None]:
        """While files are opened that were there when the cache was.

        Raises:
          RunFailed: naming one that is there no more, or is no file.
        """
        try:
            yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise RunFailed(
                f"{error.filename}, of config.data.cache, is gone: it was deleted or replaced "
                "while the run used it. Run the same command again, which decodes the images anew"
            ) from error

    @property
    def kept(self) -> int:
        """How many examples are there."""
        slots = np.frombuffer(self._index, np.uint8).reshape(-1, _SLOT.size)
        return int(np.count_nonzero(slots[:, _CHECKED:].any(axis=1)))

    def get(self, index: int) -> Example | None:
        """The example, its arrays read-only; None if it is not there.

        Raises:
          RunFailed: if the cache's files are gone.
        """
        slot = self._index[index * _SLOT.size : (index + 1) * _SLOT.size]
        offset, height, width, crc, _, _, checked = _SLOT.unpack(slot)
        if not height or checked != zlib.crc32(slot[:_CHECKED]):
            return None
        arrays, size = self._layout(height, width)
        pixels = self._mapped(offset + size)
        if pixels is None:
            return None
        if not self._sound[index]:
            if zlib.crc32(memoryview(pixels)[offset : offset + size]) != crc:
                return None
            self._sound[index] = True
        return {
            name: np.ndarray(shape, dtype, pixels, offset + place)[()]
            for name, (dtype, shape, place) in arrays.items()
        }

    def _mapped(self, end: int) -> mmap.mmap | None:
        """The file of pixels, at least as far as `end`; None if it is shorter."""
        pixels = self._pixels
        if pixels is None or len(pixels) < end:
            with self._there(), open(self._files.pixels, "rb") as file:
                there = os.fstat(file.fileno()).st_size
                if there < end:
                    return None
                # Arrays that were taken from the one before keep it.
                pixels = self._pixels = mmap.mmap(file.fileno(), there, access=mmap.ACCESS_READ)
        return pixels

    def put(self, index: int, example: Example) -> None:
        """Keeps an example, if there is room.

        Raises:
          RunFailed: if the cache's files are gone.
        """
        with self._there():
            self._put(index, example)

    def _put(self, index: int, example: Example) -> None:
        height, width = example["image"].shape[:2]
        arrays, size = self._layout(height, width)
        offset = self._place(size)
        if offset is None:
            return
        crc = 0
        try:
            with open(self._files.pixels, "r+b", buffering=0) as file:
                for name, (dtype, _, place) in arrays.items():
                    data = np.ascontiguousarray(example[name], dtype).tobytes()
                    os.pwrite(file.fileno(), data, offset + place)
                    crc = zlib.crc32(data, crc)
        except FileNotFoundError:
            raise
        except OSError as error:
            # Some file systems need room for what is written over what was there.
            self._stop(error.strerror or str(error))
            return
        self._note(index, offset, height, width, crc)

    def _layout(self, height: int, width: int) -> _Layout:
        found = self._layouts.get((height, width))
        if found is None:
            if len(self._layouts) >= _SIZES:
                self._layouts.clear()
            found = self._layouts[height, width] = _layout(self._spec, height, width)
        return found

    def _note(self, index: int, offset: int, height: int, width: int, crc: int) -> None:
        slot = _SLOT.pack(offset, height, width, crc, 0, 0, 0)[:_CHECKED]
        start = index * _SLOT.size
        self._index[start : start + _SLOT.size] = slot + zlib.crc32(slot).to_bytes(4, "little")

    def _place(self, size: int) -> int | None:
        """Where `size` bytes may be written; None if there is no room."""
        size += -size % _ALIGNED
        with self._lock:
            if self._next + size > self._end and not self._full:
                self._take_block(max(size, min(_BLOCK, self._files.limit // 16)))
            if self._full:
                return None
            offset = self._next
            self._next += size
            return offset

    def _take_block(self, size: int) -> None:
        with _locked(self._files.usage) as usage:
            used = int.from_bytes(os.pread(usage, 8, 0), "little")
            if used + size > self._files.limit:
                self._stop(f"{used / _GIB:.1f} GiB of at most {self._files.limit / _GIB:.1f}")
                return
            with open(self._files.pixels, "r+b") as file:
                begin = os.fstat(file.fileno()).st_size
                try:
                    _extend(file.fileno(), begin, size)
                except OSError as error:
                    os.ftruncate(file.fileno(), begin)
                    self._stop(error.strerror or str(error))
                    return
            os.pwrite(usage, (used + size).to_bytes(8, "little"), 0)
            self._next, self._end = begin, begin + size

    def _stop(self, why: str) -> None:
        self._full = True
        logging.warning(
            "the cache of decoded images is full (%s): the images that are not in it are decoded "
            "each time. config.data.cache_gib allows more",
            why,
        )


class Cached(Derived):
    """A source of which what has been decoded once is read from a cache.

    Args:
      source: the images.
      decoded: those that are there.
    """

    def __init__(self, source: Source, decoded: DecodedImages):
        super().__init__(source)
        self._decoded = decoded

    def read(self, index: int) -> Example:
        """The example from the cache, its arrays read-only, or from the source."""
        found = self._decoded.get(index)
        if found is not None:
            return found
        example = self._source.read(index)
        if "image" in example:
            example = {**example, "image": np.asarray(example["image"])}
        self._decoded.put(index, example)
        return example

    @property
    def found(self) -> str:
        """What the source found, and how much of it is decoded."""
        return f"{self._source.found}; {self._decoded.kept:,} decoded in the cache"


def cached(source: Source, place: str, gib: float | None, *decoding: Any) -> Cached:
    """The source, with a cache of its decoded images.

    Args:
      source: the images.
      place: a directory, which need not exist, or `IN_MEMORY`.
      gib: the most that sets in this directory, or of this process, take; None for half of what is
        free there.
      *decoding: what else the pixels depend on, as JSON can hold it.

    Raises:
      UserError: if examples hold text, or the directory cannot be used.
    """
    texts = [name for name, one in source.spec.items() if isinstance(one, TextSpec)]
    if texts:
        raise UserError(
            f"config.data.cache keeps arrays, but the examples hold text ({', '.join(texts)}); set "
            "config.data.cache=none"
        )
    if place == IN_MEMORY:
        files, held = _in_memory(len(source), gib)
    else:
        shapes = {name: str(one) for name, one in source.spec.items()}
        # A file that is written anew may have the size that it had.
        key = fingerprint_of(source.fingerprint, version_of(source), shapes, *decoding)
        files, held = _in_directory(Path(place), key, len(source), gib), ()
    decoded = DecodedImages(files, source.spec, len(source))
    for descriptor in held:
        weakref.finalize(decoded, os.close, descriptor)
    return Cached(source, decoded)


def _in_directory(root: Path, key: str, images: int, gib: float | None) -> _Files:
    folder, usage = root / key, root / "usage"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in (usage, folder / "index", folder / "pixels"):
            if file.is_dir():
                raise UserError(
                    f"config.data.cache cannot be {root}: {file} is a directory, and a file is "
                    "expected; remove it, or choose another directory"
                )
        usage.touch()
        with _locked(usage) as descriptor:
            index, pixels = folder / "index", folder / "pixels"
            pixels.touch()
            size = images * _SLOT.size
            if not index.exists() or index.stat().st_size != size:
                with index.open("wb") as file:
                    file.truncate(size)
            with index.open("r+b") as file:
                # A slot that finds no room, when it is written, ends the process.
                _extend(file.fileno(), 0, size)
            # Of sets that somebody has deleted nothing counts any more.
            used = sum(file.stat().st_size for file in root.glob("*/pixels"))
            os.pwrite(descriptor, used.to_bytes(8, "little"), 0)
        free = os.statvfs(root)
    except OSError as error:
        raise UserError(
            f"config.data.cache cannot be {root}: {error.strerror or error}; choose another "
            f"directory, or {IN_MEMORY}"
        ) from error
    there = used + free.f_bavail * free.f_frsize
    _check_room(gib, there, str(root))
    limit = gib * _GIB if gib else used + _SHARE * (there - used)
    return _Files(str(index), str(pixels), str(usage), int(limit))


def _in_memory(images: int, gib: float | None) -> tuple[_Files, tuple[int, ...]]:
    """Files that no directory lists; they last as long as a process has them open."""
    if not hasattr(os, "memfd_create"):
        raise UserError(
            "config.data.cache=ram needs Linux; name a directory, which may be one in memory"
        )
    _check_room(gib, free_memory(), "this machine's memory")
    index, pixels = (os.memfd_create(f"distill {name}") for name in ("index", "pixels"))
    os.ftruncate(index, images * _SLOT.size)
    limit = gib * _GIB if gib else _SHARE * free_memory()
    here = f"/proc/{os.getpid()}/fd"
    files = _Files(
        f"{here}/{index}", f"{here}/{pixels}", f"{here}/{_usage_in_memory()}", int(limit)
    )
    return files, (index, pixels)


def _check_room(gib: float | None, there: float, where: str) -> None:
    """Checks that a bound is one, which what is free there does not reach first."""
    if gib is not None and gib * _GIB > there:
        raise UserError(
            f"config.data.cache_gib is {gib:g}, and {where} has room for {there / _GIB:,.1f} GiB; "
            "give less, or none for half of what is free"
        )


_in_memory_usage: list[int] = []


def _usage_in_memory() -> int:
    """One for all sets of this process."""
    if not _in_memory_usage:
        _in_memory_usage.append(os.memfd_create("distill usage"))
    return _in_memory_usage[0]


def _extend(descriptor: int, begin: int, size: int) -> None:
    # A page of a hole that finds no room, when it is read, ends the process.
    if not size:
        return
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, begin, size)
    else:
        os.ftruncate(descriptor, begin + size)


@contextlib.contextmanager
def _locked(path: str | Path) -> Iterator[int]:
    """A descriptor of a file that no other process, and no other thread, has locked."""
    with open(path, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _layout(spec: ExampleSpec, height: int, width: int) -> _Layout:
    found, place = {}, 0
    for name, one in spec.items():
        sides = iter((height, width))
        shape = tuple(next(sides) if side is None else side for side in one.shape)
        found[name] = (one.dtype, shape, place)
        place += one.dtype.itemsize * math.prod(shape)
    return found, place
