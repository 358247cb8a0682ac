"""Where images lie in larger files: an index of them in one file, mapped into memory.

The file: a line that says what it is, BLAKE2b of all that follows (16 bytes), the length of the
header (8 bytes), the header in JSON, an entry of 32 bytes for each image, from a multiple of 64,
and all their names.
"""

import contextlib
import dataclasses
import fcntl
import glob
import hashlib
import json
import mmap
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from distill.begun import alone_in
from distill.errors import RunFailed

_MAGIC = b"distill image index 1\n"
_DIGEST = 16
_START = len(_MAGIC) + _DIGEST + 8
_ALIGNMENT = 64
UNKNOWN = -1
"""In place of a size that only reading tells."""

ENTRY = np.dtype(
    [
        ("offset", "<i8"),
        ("length", "<i8"),
        ("name_end", "<i8"),
        ("shard", "<i4"),
        ("label", "<i4"),
    ]
)
"""Of an image: where its bytes begin in its shard, how many they are, where its name ends among all
names, the number of its shard, and that of its label among the index's, −1 for none."""


class DamagedIndex(Exception):
    """A file that is no index, or not a whole one; the message says what is wrong."""


class Label(NamedTuple):
    """What is said of an image's class."""

    text: str
    """The class's name or number."""
    is_folder: bool = False
    """Whether it is only the folder that the image lies in, which says nothing where other images
    have labels that are stated."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """A file that images lie in, as it was when it was indexed."""

    name: str
    """Its path from the root."""
    size: int
    """In bytes; may be `UNKNOWN` of an object in a bucket."""
    mtime_ns: int
    """When it was changed, in nanoseconds since 1970, or a number of an object's content; 0 where
    that is not looked at."""
    images: int = 0
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """What else lies in it, counted by suffix."""
    remarks: tuple[str, ...] = ()
    """What is odd about it."""

    def is_as(self, other: "Shard") -> bool:
        """Whether both are of the same file, unchanged."""
        sizes = {self.size, other.size} - {UNKNOWN}
        return (self.name, self.mtime_ns) == (other.name, other.mtime_ns) and len(sizes) < 2


class ShardImages(NamedTuple):
    """A shard and its images."""

    shard: Shard
    entries: np.ndarray
    """ENTRY [N]; `shard` is not set, `name_end` and `label` are of `names` and `labels` here."""
    names: bytes
    labels: tuple[Label, ...]

    @classmethod
    def of(
        cls,
        shard: Shard,
        names: Sequence[bytes],
        offsets: Sequence[int],
        lengths: Sequence[int],
        labels: Sequence[Label | None],
    ) -> "ShardImages":
        """What a scan found of each image, in order.

        Args:
          shard: in which they lie; its `images` is set.
          names: in the shard, as the file system encodes names.
          offsets: where their bytes begin.
          lengths: how many they are.
          labels: None for an image without.
        """
        numbers: dict[Label | None, int] = {None: -1}
        for label in labels:
            numbers.setdefault(label, len(numbers) - 1)
        entries = np.zeros(len(names), ENTRY)
        entries["offset"], entries["length"] = offsets, lengths
        entries["name_end"] = np.cumsum([len(name) for name in names])
        entries["label"] = [numbers[label] for label in labels]
        used = tuple(label for label in numbers if label is not None)
        about = dataclasses.replace(shard, images=len(names))
        return cls(about, entries, b"".join(names), used)


class ImageIndex:
    """An index in a file; other processes are handed its path and open it again.

    Args:
      path: of the file.
      root: the folder of which its shards' paths are.
      checked: whether all of it is read and compared with its checksum.

    Raises:
      DamagedIndex: if it is none, or not whole.
      OSError: if it cannot be read.
    """

    def __init__(self, path: str, root: str, *, checked: bool = True):
        self.path, self.root = path, root
        with open(path, "rb") as file:
            start = file.read(_START)
            if not start.startswith(_MAGIC) or len(start) < _START:
                raise DamagedIndex("it does not begin as an index does")
            self.digest = start[len(_MAGIC) : len(_MAGIC) + _DIGEST].hex()
            length = int.from_bytes(start[-8:], "little")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if _START + length > len(mapped):
            raise DamagedIndex("it is cut off")
        if checked and _digest(memoryview(mapped)[len(_MAGIC) + _DIGEST :]) != self.digest:
            raise DamagedIndex("its content does not have its checksum")
        header: dict[str, Any] = json.loads(mapped[_START : _START + length])
        self.kind: str = header["kind"]
        self.shards = tuple(
            Shard(**shard | {"remarks": tuple(shard["remarks"])}) for shard in header["shards"]
        )
        self.labels = tuple(Label(*label) for label in header["labels"])
        entries_at = _aligned(_START + length)
        count = sum(shard.images for shard in self.shards)
        names_at = entries_at + count * ENTRY.itemsize
        if len(mapped) != names_at + header["names"]:
            raise DamagedIndex("its size is not what it says")
        self.entries = np.frombuffer(mapped, ENTRY, count, entries_at)
        """ENTRY [N], in the order of shards."""
        self._names = memoryview(mapped)[names_at:]

    def __len__(self) -> int:
        return len(self.entries)

    def __reduce__(self):
        return _opened_again, (self.path, self.root, self.digest)

    @property
    def starts(self) -> np.ndarray:
        """The first image of each shard, and the number of all, int64 [shards + 1]."""
        return np.cumsum([0, *(shard.images for shard in self.shards)])

    def name(self, row: int) -> str:
        """The image's name in its shard."""
        start = self.entries["name_end"][row - 1] if row else 0
        return os.fsdecode(bytes(self._names[start : self.entries["name_end"][row]]))

    def path_of(self, row: int) -> str:
        """The path of the image's shard from the root, and its name in it."""
        return os.path.join(self.shards[self.entries["shard"][row]].name, self.name(row))

    def paths(self, rows: np.ndarray) -> list[bytes]:
        """`path_of` of several, as the file system encodes them."""
        shards = [os.fsencode(os.path.join(shard.name, "")) for shard in self.shards]
        names, ends = bytes(self._names), self.entries["name_end"]
        starts = np.where(rows > 0, ends[rows - 1], 0) if len(self) else rows
        places = zip(
            self.entries["shard"][rows].tolist(),
            starts.tolist(),
            ends[rows].tolist(),
            strict=True,
        )
        return [shards[shard] + names[start:stop] for shard, start, stop in places]

    def shard_images(self) -> dict[str, ShardImages]:
        """What is said of each shard, by its path from the root."""
        found, starts = {}, self.starts
        ends = np.concatenate([[0], self.entries["name_end"]])
        for shard, start, stop in zip(self.shards, starts[:-1], starts[1:], strict=True):
            entries = self.entries[start:stop].copy()
            entries["name_end"] -= ends[start]
            names = bytes(self._names[ends[start] : ends[stop]])
            found[shard.name] = ShardImages(shard, entries, names, self.labels)
        return found


def write_index(path: str, kind: str, content: Iterable[ShardImages]) -> None:
    """Writes an index: whoever opens it finds all of the old one or all of the new.

    The same content is written as the same bytes, so that several processes may do it at once.

    Args:
      path: of the index.
      kind: of the shards, such as `wds`.
      content: of the shards, in order.

    Raises:
      OSError: if it cannot be written.
    """
    content = list(content)
    labels = sorted({label for one in content for label in _used(one)})
    number = {label: place for place, label in enumerate(labels)}
    joined = []
    names_before = 0
    for place, one in enumerate(content):
        entries = one.entries.copy()
        entries["shard"] = place
        entries["name_end"] += names_before
        # The last place is that of −1, no label.
        table = np.array([number.get(label, -1) for label in one.labels] + [-1], "<i4")
        entries["label"] = table[entries["label"]]
        joined.append(entries)
        names_before += len(one.names)
    shards = [dataclasses.asdict(one.shard) for one in content]
    about = {"kind": kind, "names": names_before, "labels": labels, "shards": shards}
    header = json.dumps(about).encode()
    padding = bytes(_aligned(_START + len(header)) - _START - len(header))
    parts = [len(header).to_bytes(8, "little"), header, padding]
    parts += [entries.tobytes() for entries in joined] + [one.names for one in content]
    write_whole(path, [_MAGIC, bytes.fromhex(_digest(*parts)), *parts])


def _used(images: ShardImages) -> list[Label]:
    """The labels that images have, of those that there are."""
    return [images.labels[n] for n in np.unique(images.entries["label"]) if n >= 0]


def write_whole(path: str, parts: Iterable[bytes]) -> None:
    """Writes a file: whoever opens it finds all of it, or what was there before.

    Raises:
      OSError: if it cannot be written.
    """
    # Several may write at once. What tempfile makes only its owner may read, whatever the umask.
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    try:
        with contextlib.ExitStack() as stack:
            with alone_in(os.path.dirname(path) or os.curdir) as alone:
                _remove_left(path, alone)
                out = stack.enter_context(open(temporary, "xb"))
                with contextlib.suppress(OSError):
                    fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
            out.writelines(parts)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _remove_left(path: str, alone: bool) -> None:
    """Removes what killed processes left of this index; who is writing one has it locked."""
    for left in glob.glob(f"{glob.escape(path)}.*.tmp"):
        with contextlib.suppress(OSError), open(left, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Where locks are not to be had, one that was just begun is not known from one left.
            if alone or os.fstat(file.fileno()).st_size:
                os.unlink(left)


def _opened_again(path: str, root: str, digest: str) -> ImageIndex:
    """The index that another process has open.

    Raises:
      RunFailed: if it is gone or is another one.
    """
    try:
        index = ImageIndex(path, root, checked=False)
    except (OSError, DamagedIndex) as error:
        raise RunFailed(
            f"the index {path} of {root} cannot be opened again: {error}. Run the command again, "
            "which builds it anew"
        ) from error
    if index.digest != digest:
        raise RunFailed(
            f"the index {path} of {root} is another one than at the start: the data has changed. "
            "Run the command again"
        )
    return index


def _digest(*parts: bytes | memoryview) -> str:
    digest = hashlib.blake2b(digest_size=_DIGEST)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


def left_out(shards: Iterable[Shard]) -> Counter[str]:
    """What lies in shards beside images, counted."""
    total: Counter[str] = Counter()
    for shard in shards:
        total.update(shard.left_out)
    return total
