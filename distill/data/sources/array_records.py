"""ArrayRecord files whose records are encoded images, or `tf.train.Example` that hold them."""

import dataclasses
import os
import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from distill.data.sources.base import CorruptImage, Source, printable
from distill.data.sources.class_lists import label_text
from distill.data.sources.example_protos import parse_example
from distill.data.sources.formats import Format, Request
from distill.data.sources.image_index import ImageIndex, Label, Shard, ShardImages
from distill.data.sources.indexed_images import IndexedImages
from distill.data.sources.indexing import open_index
from distill.data.sources.local_files import check_unchanged
from distill.data.sources.reading import persistently
from distill.data.sources.sharded import open_sharded
from distill.data.sources.shards import find_shards
from distill.errors import RunFailed, UserError

_FILE = re.compile(r"\.array_?record(-\d+-of-\d+)?$", re.IGNORECASE)
# What features may be called: by TFDS, and in the ImageNet records of TensorFlow's models.
_IMAGE = ("image", "image/encoded")
_LABEL = ("label", "image/class/label")
_NAME = ("file_name", "image/filename")
# Every message with a field 1 begins so, and of images only PCX.
_EXAMPLE = b"\n"
# What array_record says where bytes are there and wrong, which no patience mends.
_DAMAGED = ("Corrupted Riegeli", "Invalid Riegeli", "should be at least 64KB")
_BLOCK = 1 << 16
# Records that are read at once for the index.
_RECORDS = 64


class DamagedRecords(Exception):
    """A file that is no ArrayRecord file, or not as it was written; the message says why."""


def record_failure(error: RuntimeError) -> Exception:
    """What array_record's error means: that a file is damaged, or, an OSError, the system fails."""
    reason = str(error).strip().partition("\n")[0]
    is_damage = any(said in reason for said in _DAMAGED)
    return DamagedRecords(reason) if is_damage else OSError(reason)


class RecordImages(IndexedImages):
    """Images in ArrayRecord files, by an index that has a record's number in place of an offset."""

    mend = "Copy it again"
    """What to do where a file is damaged."""

    def __init__(self, index: ImageIndex, *arguments: Any, **options: Any):
        super().__init__(index, *arguments, **options)
        self._readers = _Readers()

    def encoded(self, index: int) -> bytes:
        """The bytes of the image's file."""
        entry = self._index.entries[self._rows[index]]
        shard = self._index.shards[entry["shard"]]
        path = os.path.join(self._index.root, shard.name)

        def read() -> bytes:
            check_unchanged(path, shard, os.stat(path))
            (record,) = self._readers.read(path, [int(entry["offset"])])
            image = self.image_of(record)
            if len(image) != entry["length"]:
                raise DamagedRecords(
                    f"record {entry['offset']:,} has an image of {len(image):,} bytes, and the "
                    f"index says {entry['length']:,}"
                )
            return image

        try:
            image = persistently(read, path)
        except DamagedRecords as error:
            raise RunFailed(f"{printable(path)} is damaged: {error}. {self.mend}") from error
        if not image:
            raise CorruptImage("it is empty, 0 bytes")
        return image

    def image_of(self, record: bytes) -> bytes:
        """The bytes of a record's image."""
        return _image(record)[0]


class _Readers:
    """Open files, in each process its own."""

    def __init__(self):
        self._lock = threading.Lock()
        self._open: dict[str, Any] = {}

    def __reduce__(self):
        return _Readers, ()

    def read(self, path: str, records: Sequence[int]) -> Sequence[bytes]:
        """Some records of a file.

        Raises:
          DamagedRecords: if the file is damaged.
          OSError: if the system fails to read it.
        """
        with self._lock:
            if path not in self._open:
                self._open[path] = _reader(path)
        try:
            return self._open[path].read(records)
        except RuntimeError as error:
            raise record_failure(error) from error


def _reader(path: str) -> Any:
    """Opens a file.

    Raises:
      DamagedRecords: if it is no whole ArrayRecord file.
      OSError: if the system fails to read it.
    """
    from array_record.python.array_record_module import ArrayRecordReader

    # What the system says of a file array_record does not pass on.
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
    # Records are read at random: what comes after one is not wanted.
    reader = ArrayRecordReader(
        path, options="readahead_buffer_size:0", file_reader_buffer_size=32768
    )
    if not reader.ok():
        # So it is where the system fails to read the end, which says what the file holds.
        with open(path, "rb", buffering=0) as file:
            os.pread(file.fileno(), _BLOCK, max(0, size - _BLOCK))
        raise DamagedRecords("it is no ArrayRecord file, or cut off")
    return reader


def scan_records(path: str, shard: Shard) -> ShardImages:
    """Finds the images in an ArrayRecord file; all of it is read for their labels and names.

    Raises:
      UserError: if the file is damaged, or a record holds no image, or several labels.
      RunFailed: if the system fails to read it.
    """
    try:
        found = persistently(lambda: list(_found(path)), path)
    except DamagedRecords as error:
        raise UserError(f"{printable(path)} is damaged: {error}. Copy it again") from error
    remarks = () if found else (f"{shard.name} holds no images",)
    about = dataclasses.replace(shard, remarks=remarks)
    return ShardImages.of(
        about,
        [name for name, _, _ in found],
        range(len(found)),
        [length for _, length, _ in found],
        [label for _, _, label in found],
    )


def _found(path: str) -> Iterator[tuple[bytes, int, Label | None]]:
    """Name, size and label of each record's image."""
    total, readers = _reader(path).num_records(), _Readers()
    for start in range(0, total, _RECORDS):
        numbers = list(range(start, min(start + _RECORDS, total)))
        for number, record in zip(numbers, readers.read(path, numbers), strict=True):
            try:
                image, label, name = _image(record)
            except UserError as error:
                raise UserError(f"{printable(path)}, record {number:,} {error}") from error
            yield name or str(number).encode(), len(image), Label(label) if label else None


def _image(record: bytes) -> tuple[bytes, str | None, bytes]:
    """A record's image, its label and its name; empty where it has none.

    Raises:
      UserError: if it is an example without an image, or with several labels.
    """
    if not record.startswith(_EXAMPLE):
        return record, None, b""
    try:
        features = parse_example(record)
    # An image that happens to begin like one.
    except ValueError:
        return record, None, b""
    image, label, name = (_only(features, names) for names in (_IMAGE, _LABEL, _NAME))
    if not isinstance(image, bytes):
        there = ", ".join(map(repr, features)) or "none"
        raise UserError(f"has no feature 'image' of bytes; it has {there}")
    if isinstance(label, float):
        raise UserError(
            f"has the label {label:g}, a float; expected a whole number (Int64List) or text"
        )
    text = label.decode("utf-8", "surrogateescape") if isinstance(label, bytes) else label
    return image, label_text(text), name if isinstance(name, bytes) else b""


def _only(features: dict[str, Any], names: Sequence[str]) -> Any:
    """The value of the first of the features that is there, if any.

    Raises:
      UserError: if it has several.
    """
    name = next((name for name in names if features.get(name)), None)
    if name is None:
        return None
    value, *more = features[name]
    if more:
        raise UserError(
            f"has {1 + len(more):,} values in feature {name!r}; expected one: an image has one "
            "file, one name and one class"
        )
    return value


def _open(request: Request) -> Source:
    shards = find_shards(
        request.argument,
        lambda name: bool(_FILE.search(name)),
        "a folder with *.array_record, or *.array_record-00000-of-00001 as TFDS names them",
    )
    index = open_index("array_record", shards, scan_records)
    return open_sharded(request, shards, index, RecordImages)


FORMATS = (Format(name="array_record", argument="PATH", open=_open),)
