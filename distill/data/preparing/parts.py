"""A part of a split, written as a shard: what a process does at a time.

While a split is unfinished, each of its finished shards has a note, which holds what the index and
the manifest say of it. A shard that is not noted, or does not have the checksum of its note, is
written anew.
"""

import collections
import contextlib
import dataclasses
import functools
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from distill.data.fast import MAX_PIXELS, decode_jpeg
from distill.data.jpeg import UnsupportedJpeg, with_restarts
from distill.data.preparing.tars import TarWriter
from distill.data.sources.base import CorruptImage, Source, is_remote, printable
from distill.data.sources.decoding import Decoding
from distill.data.sources.manifest import FORMS, UNFINISHED, Form, PreparedShard
from distill.errors import RunFailed, UserError
from distill.json_files import read_json, write_json
from distill.unwritten import whole_or_not

# Marking takes up to 100 times as much memory as the file.
_LONGEST = 2**23
_BLOCK = 2**20
# Images that are asked for over a network before they are needed.
_AHEAD = 16

Tick = Callable[[int], None]
"""Told how many more images are done; raises `Stopped` where nobody waits for them."""


class Part(NamedTuple):
    """Images of a split that follow each other."""

    split: str
    number: int
    parts: int
    """How many parts the split has."""
    start: int
    stop: int
    form: Form = FORMS[0]
    """Kind of its shard."""

    @property
    def file(self) -> str:
        """The name of its shard."""
        return f"{self.split}-{self.number:05d}-of-{self.parts:05d}.{self.form}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Written:
    """What is known of a finished shard."""

    size: int
    """In bytes."""
    blake2b: str
    offsets: list[int] = dataclasses.field(default_factory=list)
    """Where in a tar they begin; of records, none."""
    lengths: list[int]
    """Of its images, in bytes."""
    names: list[str]
    marked: int
    corrupt: list[str]
    """Where images are that cannot be decoded, and why."""

    @classmethod
    def noted(cls, folder: Path, part: Part) -> "Written":
        """What the note of a shard says.

        Raises:
          UserError: if it cannot be read.
        """
        file = folder / UNFINISHED / _note(part)
        try:
            return cls(**read_json(file))
        except TypeError as error:
            raise UserError(f"{file} is damaged: {error}") from error

    def shard(self, part: Part) -> PreparedShard:
        """As the manifest has it."""
        return PreparedShard(
            name=part.file, images=len(self.lengths), size=self.size, blake2b=self.blake2b
        )


def encoded_image(source: Source, index: int) -> bytes:
    """The bytes of an image's file: as the source has them, or its pixels as PNG.

    Raises:
      CorruptImage: if it is empty, or pixels cannot be decoded.
      RunFailed: if the system cannot read it.
    """
    encoded = getattr(source, "encoded", None)
    if encoded is not None:
        return encoded(index)
    pixels = np.asarray(source.read(index)["image"])
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "PNG")
    return file.getvalue()


def marked(data: bytes, max_pixels: int = MAX_PIXELS) -> bytes | None:
    """The JPEG with restart markers, if its pixels are then the same; else None."""
    if not data.startswith(b"\xff\xd8") or len(data) > _LONGEST:
        return None
    pixels = decode_jpeg(data, max_pixels)
    if pixels is None:
        return None
    try:
        anew = with_restarts(data)
    except UnsupportedJpeg:
        return None
    again = decode_jpeg(anew, max_pixels)
    return anew if again is not None and np.array_equal(again, pixels) else None


def write_part(
    sources: Mapping[str, Source],
    folder: Path,
    restarts: bool,
    max_pixels: int,
    part: Part,
    tick: Tick,
) -> None:
    """Writes a part, and notes it, unless it is there already, whole.

    Args:
      sources: by split.
      folder: to write to; notes and what is begun are in its folder `UNFINISHED`.
      restarts: whether JPEGs are marked.
      max_pixels: of an image that is looked at.
      part: of one of the splits.
      tick: is told how far it is.

    Raises:
      RunFailed: if it cannot be written, or an image cannot be read.
    """
    if _is_finished(folder, part):
        tick(part.stop - part.start)
        return
    unfinished = folder / UNFINISHED / part.file
    with writing(folder / part.file), whole_or_not(unfinished, folder / part.file):
        written = _write(sources[part.split], part, unfinished, (restarts, max_pixels), tick)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(folder / part.file)
        write_json(folder / UNFINISHED / _note(part), dataclasses.asdict(written), checked=True)


@contextlib.contextmanager
def writing(file: Path) -> Iterator[None]:
    """Says that a file could not be written, and why.

    Raises:
      RunFailed: where the system, or array_record, fails.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise RunFailed(
            f"{printable(str(file))} cannot be written: {why}. What is finished stays: free space, "
            "or mend the disk, and run the same command again"
        ) from error


def checksum(file: Path) -> str:
    """BLAKE2b of a file's content, 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    with file.open("rb", buffering=0) as content:
        while block := content.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _note(part: Part) -> str:
    return f"{part.file}.json"


def _is_finished(folder: Path, part: Part) -> bool:
    """Whether a shard is there as its note says."""
    try:
        written = Written.noted(folder, part)
        is_there = written.shard(part).is_in(folder)
        return is_there and checksum(folder / part.file) == written.blake2b
    # Whatever is wrong with a note or its shard, it is written anew.
    except (UserError, OSError):
        return False


def _write(source: Source, part: Part, file: Path, how: tuple[bool, int], tick: Tick) -> Written:
    offsets, lengths, names, corrupt, count = [], [], [], [], 0
    # Groups of one record are read at random without reading their neighbours.
    writer: Any = (
        TarWriter(file)
        if part.form == "tar"
        else ArrayRecordWriter(str(file), "group_size:1,uncompressed")
    )
    try:
        for index, encoded in _asked(source, range(part.start, part.stop)):
            data, is_marked, wrong = _prepared(encoded, *how)
            if (offset := writer.write(data)) is not None:
                offsets.append(offset)
            lengths.append(len(data))
            names.append(source.name(index))
            count += is_marked
            corrupt += [f"{source.describe(index)}: {wrong}"] if wrong else []
            tick(1)
    finally:
        writer.close()
    return Written(
        size=file.stat().st_size,
        blake2b=checksum(file),
        offsets=offsets,
        lengths=lengths,
        names=names,
        marked=count,
        corrupt=corrupt,
    )


def _asked(source: Source, indices: range) -> Iterator[tuple[int, Callable[[], bytes]]]:
    """Images, and what returns their bytes; some that come by a network are on their way."""
    ask = functools.partial(encoded_image, source)
    if not is_remote(source):
        yield from ((index, functools.partial(ask, index)) for index in indices)
        return
    with ThreadPoolExecutor(_AHEAD) as threads:
        asked = collections.deque(threads.submit(ask, index) for index in indices[:_AHEAD])
        try:
            for index in indices:
                yield index, asked.popleft().result
                if index + _AHEAD < indices.stop:
                    asked.append(threads.submit(ask, index + _AHEAD))
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def _prepared(
    encoded: Callable[[], bytes], restarts: bool, max_pixels: int
) -> tuple[bytes, bool, str]:
    """An image's bytes, whether they are marked, and what is wrong with them."""
    try:
        data = encoded()
    except CorruptImage as error:
        return b"", False, str(error)
    if restarts and (anew := marked(data, max_pixels)) is not None:
        return anew, True, ""
    try:
        Decoding(max_pixels=max_pixels).whole(data)
    except CorruptImage as error:
        return data, False, str(error)
    return data, False, ""
