"""Images in shards, read at random by an index."""

import os
from collections.abc import Sequence

import numpy as np

from distill.data.sources.base import (
    CorruptImage,
    cached_property,
    count,
    fingerprint_of,
    labelled,
    printable,
)
from distill.data.sources.class_lists import classes_of, unknown_class
from distill.data.sources.decoding import Decoding
from distill.data.sources.image_index import ImageIndex, left_out
from distill.data.sources.layout import drawn, hashed
from distill.data.sources.places import storage_of
from distill.data.sources.scanning import LeftOut
from distill.data.spec import Example, labelled_images

# Remarks on shards that are said one by one.
_REMARKS = 3


class IndexedImages:
    """Images in shards, by an index: those of some shards, or what is drawn of them.

    Args:
      index: of the images and their labels.
      decoding: how they become pixels.
      class_names: in order; empty takes the labels.
      folder: where `class_names` are listed, for errors.
      shards: the numbers of the shards, in order; None takes all.
      bounds: only images of which the hash of their path lies between these fractions.
      beside: what lies beside the shards and is none.

    Raises:
      UserError: if an image's label is none of `class_names`.
    """

    def __init__(
        self,
        index: ImageIndex,
        decoding: Decoding,
        *,
        class_names: tuple[str, ...] = (),
        folder: str = "",
        shards: Sequence[int] | None = None,
        bounds: tuple[float, float] | None = None,
        beside: LeftOut | None = None,
    ):
        self.spec = labelled_images(decoding.channels)
        self._index = index
        self._storage = storage_of(index.root)
        self._decode = decoding
        numbers = range(len(index.shards)) if shards is None else shards
        self._beside = str(beside or "")
        self._shards = tuple(index.shards[number] for number in numbers)
        starts = index.starts
        ranges = [np.arange(starts[number], starts[number + 1]) for number in numbers]
        self._rows = np.concatenate([np.empty(0, np.int64), *ranges])
        self._drawn_from = ""
        if bounds:
            self._drawn_from = f", drawn from {len(self._rows):,}"
            self._rows = self._rows[drawn(index.paths(self._rows), bounds)]
        self.class_names, classes = _classes(index, class_names, folder)
        self.labels = classes[index.entries["label"][self._rows]]
        """Of all images, int32 [N], −1 for an image without; no shard is opened."""

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int) -> Example:
        """Reads and decodes the image."""
        return {"image": self._decode(self.encoded(index)), "label": self.labels[index]}

    def encoded(self, index: int) -> bytes:
        """The bytes of the image's file."""
        data = self._part(self._index, index)
        if not data:
            raise CorruptImage("it is empty, 0 bytes")
        return data

    def _part(self, index: ImageIndex, image: int) -> bytes:
        """What an index of these shards says where it lies for an image."""
        offset, length, _, number, _ = index.entries[self._rows[image]].item()
        shard = index.shards[number]
        path = os.path.join(index.root, shard.name)
        return self._storage.read_part(path, shard, offset, length)

    def describe(self, index: int) -> str:
        """The path of the image's shard, and its name in it."""
        return printable(os.path.join(self._index.root, self._index.path_of(self._rows[index])))

    def name(self, index: int) -> str:
        """The path of the image's shard from the root, and its name in it."""
        return printable(self._index.path_of(self._rows[index]))

    @property
    def is_remote(self) -> bool:
        """Whether shards lie in a bucket."""
        return self._storage.is_remote

    @property
    def found(self) -> str:
        """How many images there are, what else lies in the shards, and what is odd about them."""
        classes = len(self.class_names)
        images = labelled(len(self), classes) if classes else count(len(self), "image")
        parts = [f"{images}{self._drawn_from} in {count(len(self._shards), 'shard')}"]
        if without := int((self.labels < 0).sum()):
            number = "all" if without == len(self) else f"{without:,}"
            parts.append(f"{number} without labels")
        if others := LeftOut(left_out(self._shards)):
            parts.append(f"left out {others}")
        if self._beside:
            parts.append(f"left out beside the shards {self._beside}")
        remarks = [remark for shard in self._shards for remark in shard.remarks]
        parts += map(printable, remarks[:_REMARKS])
        if len(remarks) > _REMARKS:
            parts.append(f"… and {count(len(remarks) - _REMARKS, 'other')}")
        return "; ".join(parts)

    @cached_property
    def fingerprint(self) -> str:
        """Of the images' paths and sizes in order, their labels, and the classes' names."""
        lengths = self._index.entries["length"][self._rows].tobytes()
        paths = b"\0".join(self._index.paths(self._rows))
        return fingerprint_of(paths, lengths, self.labels.astype("<i4").tobytes(), self.class_names)

    @property
    def version(self) -> str:
        """Of the shards' times of change."""
        return fingerprint_of([shard.mtime_ns for shard in self._shards])

    def slicing_order(self) -> np.ndarray:
        """By a hash of the images' paths: any slice holds images of all classes, int64 [N]."""
        return np.argsort(hashed(self._index.paths(self._rows)), kind="stable")


def _classes(
    index: ImageIndex, names: tuple[str, ...], folder: str
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of classes, and the class of each of the index's labels, the last −1, int32."""
    stated = [not label.is_folder for label in index.labels]
    # Folders say what an image is where nothing else does so of any.
    counted = [place for place, is_stated in enumerate(stated) if is_stated or not any(stated)]
    texts = [index.labels[place].text for place in counted]
    if not texts:
        return (), np.array([-1], np.int32)
    class_names, numbers, unknown = classes_of(texts, names)
    if unknown:
        row = int(np.flatnonzero(index.entries["label"] == counted[unknown[0]])[0])
        where = printable(os.path.join(index.root, index.path_of(row)))
        raise unknown_class(texts[unknown[0]], where, class_names, folder)
    classes = np.full(len(index.labels) + 1, -1, np.int32)
    classes[counted] = numbers
    return class_names, classes
