"""The index of images in shards: found where it was left, or built.

It lies beside the shards as a hidden file or, where that cannot be written, and of shards in a
bucket, in `$XDG_CACHE_HOME/distill` (`~/.cache/distill`). Shards are known by name, size and time
of change, objects by name and content; those that are as they were are not read again.
"""

import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from absl import logging

from distill.data.sources.base import count, printable
from distill.data.sources.image_index import (
    DamagedIndex,
    ImageIndex,
    Shard,
    ShardImages,
    write_index,
)
from distill.data.sources.places import storage_of
from distill.data.sources.shards import Shards
from distill.data.sources.together import once
from distill.errors import UserError
from distill.paths import user_cache

# The system answers many questions at once, which a network file system needs.
_THREADS = 16
# Seconds before the first line that says how far it is, and between two.
_PATIENCE = 5.0

Scan = Callable[[str, Shard], ShardImages]
"""Finds the images in the shard at a path; raises a UserError where the shard is damaged."""


def open_index(kind: str, shards: Shards, scan: Scan) -> ImageIndex:
    """The index of shards as they are now.

    Args:
      kind: of shards, a part of the index's name.
      shards: to be indexed, in order.
      scan: reads a shard that is new or has changed.

    Raises:
      UserError: if a shard is damaged or changes meanwhile, or the index cannot be written.
      RunFailed: if the system fails to read one.
    """
    return once(("index", kind, shards.root, shards.names), lambda: _open_index(kind, shards, scan))


def _open_index(kind: str, shards: Shards, scan: Scan) -> ImageIndex:
    root = shards.root
    with ThreadPoolExecutor(_THREADS) as threads:
        wanted = list(threads.map(lambda name: _shard(root, name), shards.names))
    places = _places(kind, shards)
    found = [index for place in places if (index := _opened(place, kind, root))]
    for index in found:
        if len(index.shards) == len(wanted) and all(map(Shard.is_as, index.shards, wanted)):
            return index
    known = found[0].shard_images() if found else {}
    fresh = [
        shard
        for shard in wanted
        if shard.name not in known or not shard.is_as(known[shard.name][0])
    ]
    known |= {one.shard.name: one for one in _scanned(root, fresh, scan)}
    return _written(places, kind, root, [known[shard.name] for shard in wanted])


def _shard(root: str, name: str) -> Shard:
    path = os.path.join(root, name)
    return Shard(name, *storage_of(path).status(path))


def _places(kind: str, shards: Shards) -> list[str]:
    """Where the index may be, best first; that of a folder, and each pattern, has its own name."""
    files = storage_of(shards.root)
    name = f"{kind}.index"
    if shards.pattern:
        name = f"{kind}-{_hash(os.fsencode(shards.pattern))}.index"
    beside = files.index_place(shards.root, name)
    return [*([beside] if beside else []), cached_place(shards.root, name)]


def cached_place(root: str, name: str) -> str:
    """Where a file of this name that is of a folder of data lies in the user's cache."""
    return str(user_cache() / _hash(os.fsencode(storage_of(root).real(root))) / name)


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _opened(path: str, kind: str, root: str) -> ImageIndex | None:
    """The index in a file, if there is one that is whole."""
    try:
        index = ImageIndex(path, root)
        if index.kind != kind:
            raise DamagedIndex(f"it is of {index.kind}")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, DamagedIndex) as error:
        logging.warning("index %s cannot be used: %s; it is built again", printable(path), error)
        return None
    return index


def _scanned(root: str, shards: Sequence[Shard], scan: Scan) -> Iterator[ShardImages]:
    """What shards hold, in any order."""
    # Where sizes are not known, all count alike.
    sizes = {shard.name: max(shard.size, 1) for shard in shards}
    progress = _Progress(root, sum(sizes.values()), len(shards))
    with ThreadPoolExecutor(_THREADS) as threads:
        tasks = [threads.submit(_scanned_shard, root, shard, scan) for shard in shards]
        try:
            for task in as_completed(tasks):
                images = task.result()
                progress.add(images.shard, sizes[images.shard.name])
                yield images
        # One that is damaged ends it, and so does Ctrl-C; what has not begun is not waited for.
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def _scanned_shard(root: str, shard: Shard, scan: Scan) -> ShardImages:
    images = scan(os.path.join(root, shard.name), shard)
    if not _shard(root, shard.name).is_as(shard):
        raise UserError(
            f"{printable(os.path.join(root, shard.name))} changes while it is indexed; run the "
            "command again when it is written"
        )
    return images


def _written(places: Iterable[str], kind: str, root: str, content: list[ShardImages]) -> ImageIndex:
    """The index, written to the first place that takes it."""
    reasons = []
    for place in places:
        try:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            write_index(place, kind, content)
            return ImageIndex(place, root, checked=False)
        except OSError as error:
            reasons.append(f"{printable(place)}: {error.strerror}")
    raise UserError(
        f"the index of {printable(root)} cannot be written ({'; '.join(reasons)}). Set "
        "XDG_CACHE_HOME to a directory that can be written"
    )


@dataclasses.dataclass
class _Progress:
    """Says how far the building of an index is, where it takes long."""

    root: str
    size: int
    shards: int

    def __post_init__(self):
        self._began = self._said = time.monotonic()
        self._read = self._done = self._images = 0

    def add(self, shard: Shard, size: int) -> None:
        """Takes up that a shard has been read, which counts as so many bytes."""
        self._read += size
        self._done += 1
        self._images += shard.images
        now = time.monotonic()
        if now - self._said < _PATIENCE:
            return
        self._said = now
        left = round((now - self._began) * (self.size / max(self._read, 1) - 1))
        logging.warning(
            "indexing %s: %d of %s, %s, ETA %d:%02d",
            printable(self.root),
            self._done,
            count(self.shards, "shard"),
            count(self._images, "image"),
            *divmod(left, 60),
        )
