"""Images that `distill prepare` has written: shards of them, an index of each split, a manifest."""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from distill.data.sources.array_records import RecordImages
from distill.data.sources.base import (
    MissingSplit,
    Source,
    cached_property,
    fingerprint_of,
    printable,
)
from distill.data.sources.decoding import Decoding
from distill.data.sources.formats import Format, Request
from distill.data.sources.image_index import DamagedIndex, ImageIndex
from distill.data.sources.indexed_images import IndexedImages
from distill.data.sources.indexing import cached_place
from distill.data.sources.layout import named_split
from distill.data.sources.manifest import Manifest, PreparedSplit
from distill.data.sources.places import storage_of
from distill.data.sources.splits import open_parts
from distill.errors import UserError
from distill.paths import data_path

KIND = "prepared"
# The system, or a bucket, answers many questions at once.
_THREADS = 16


def index_file(split: str) -> str:
    """The name of a split's index."""
    return f"{split}.index"


def order_file(split: str) -> str:
    """The name of the file, int64 [N] of NumPy's, in whose order slices of a split are taken.

    There is none where they are taken in the split's own order.
    """
    return f"{split}.order.npy"


def order_checksum(order: np.ndarray) -> str:
    """Of the order in which slices are taken."""
    return fingerprint_of(order.dtype.str, order.tobytes())


def has_order(folder: Path, split: str, checksum: str) -> bool:
    """Whether the order in which slices of a split are taken is there as it was written."""
    try:
        return order_checksum(np.load(folder / order_file(split), allow_pickle=False)) == checksum
    except (OSError, ValueError, EOFError):
        return False


class PreparedImages(RecordImages):
    """The images of a split, as those of the source that they were prepared from.

    Args:
      index: of the split.
      decoding: how they become pixels.
      split: its name.
      about: what the manifest says of it.
    """

    mend = (
        "Copy it again, or delete it and run the same distill prepare command again, which writes "
        "it anew; with --verify it also says what else is damaged"
    )

    def __init__(self, index: ImageIndex, decoding: Decoding, split: str, about: PreparedSplit):
        super().__init__(index, decoding, class_names=about.class_names, folder=index.root)
        # Those of images without labels, too.
        self.class_names = about.class_names
        self._fingerprint, self._version = about.fingerprint, about.version
        self._order_file = os.path.join(index.root, order_file(split))
        self._order = about.order
        self._form = about.form

    def encoded(self, index: int) -> bytes:
        """The bytes of the image's file."""
        if self._form == "tar":
            return IndexedImages.encoded(self, index)
        return super().encoded(index)

    def image_of(self, record: bytes) -> bytes:
        """The record itself."""
        return record

    def name(self, index: int) -> str:
        """What the source calls the image."""
        return self._index.name(self._rows[index])

    @cached_property
    def fingerprint(self) -> str:
        """The source's: images, their order, classes and pixels are the same."""
        return self._fingerprint

    @property
    def version(self) -> str:
        """The source's when it was prepared: what was decoded of the one is that of the other."""
        return self._version

    def slicing_order(self) -> np.ndarray:
        """That of the source, int64 [N].

        Raises:
          UserError: if its file is damaged.
        """
        if self._order is None:
            return np.arange(len(self))
        file, again = self._order_file, "Copy it again, or run the same distill prepare command"
        if not self._storage.exists(file):
            raise UserError(f"{printable(file)} is missing. {again}")
        try:
            order = np.load(io.BytesIO(self._storage.read(file)), allow_pickle=False)
            if order_checksum(order) != self._order:
                raise ValueError("it is another one than its manifest says")
        except (ValueError, EOFError) as error:
            raise UserError(f"{printable(file)} is damaged: {error}. {again}") from error
        return order


def open_prepared(folder: Path | str, split: str, decoding: Decoding) -> PreparedImages:
    """Opens a whole split.

    Args:
      folder: that `distill prepare` has written.
      split: its name, or another that stands for it.
      decoding: how images become pixels.

    Raises:
      UserError: if there is no such split, or it is not as it was written.
    """
    folder = os.fspath(folder)
    files, where = storage_of(folder), f"{KIND}:{printable(folder)}"
    manifest = Manifest.read(folder)
    if (name := named_split(split, manifest.splits, where)) is None:
        raise MissingSplit(
            f"{where} has no split {split!r}; it has {', '.join(manifest.splits)}. Prepare the "
            "source with it into a new directory"
        )
    about = manifest.splits[name]
    if files.is_remote and about.form != "tar":
        raise UserError(
            f"{where} is written as ArrayRecord files, which are read from this machine's disks "
            f"alone. Write it as tars, distill prepare {printable(manifest.source)} --shards=tar "
            "--output=DIR, and copy DIR into the bucket; or copy the data here"
        )
    path = os.path.join(folder, index_file(name))
    try:
        copy = cached_place(folder, f"{about.index}.index")
        index = ImageIndex(files.local_copy(path, copy), folder)
        if index.digest != about.index:
            raise DamagedIndex(f"{os.path.basename(path)} is another one than its manifest says")
        if odd := _odd(folder, about):
            more = f" and {len(odd) - 1:,} others" if len(odd) > 1 else ""
            raise DamagedIndex(f"{odd[0]}{more} cannot be found with its size")
    except (OSError, DamagedIndex) as error:
        raise UserError(
            f"{where} is not as it was prepared: {error}. Copy it again, or run the same distill "
            "prepare command again, which writes anew what is missing"
        ) from error
    return PreparedImages(index, decoding, name, about)


def _odd(folder: str, about: PreparedSplit) -> list[str]:
    """Shards of a split that are not there with their size."""
    has_size = storage_of(folder).has_size
    with ThreadPoolExecutor(_THREADS) as threads:
        sized = threads.map(
            lambda shard: has_size(os.path.join(folder, shard.name), shard.size), about.shards
        )
        return [shard.name for shard, fits in zip(about.shards, sized, strict=True) if not fits]


def _open(request: Request) -> Source:
    what = "prepared data"
    folder = data_path(request.argument, what)
    storage_of(folder).check_reachable(folder, what)
    return open_parts(request.split, lambda whole: open_prepared(folder, whole, request.decoding))


FORMATS = (Format(name=KIND, argument="PATH", in_buckets=True, open=_open),)
