"""Images in files: in a folder for each class, or without labels."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from distill.data.sources.base import (
    MissingSplit,
    Source,
    abbreviate,
    cached_property,
    count,
    fingerprint_of,
    labelled,
    printable,
)
from distill.data.sources.captions import SUFFIX, captions_of_file
from distill.data.sources.decoding import Decoding, suffixes
from distill.data.sources.file_table import FileTable
from distill.data.sources.formats import Format, Request
from distill.data.sources.layout import (
    Layout,
    check_drawn,
    class_names,
    find_split,
    hashed,
    open_root,
    within,
)
from distill.data.sources.places import storage_of
from distill.data.sources.reading import persistently
from distill.data.sources.scanning import OUTSIDE, LeftOut, identity, scan
from distill.data.sources.splits import open_parts
from distill.data.sources.storage import Status, Storage
from distill.data.sources.together import once
from distill.data.spec import Example, labelled_images
from distill.errors import UserError
from distill.paths import data_path

# A network file system answers many questions at once; how many files each thread asks about.
_STAT_THREADS = 16
_FILES = 1024


class ImageFiles:
    """Images in files, each with its label."""

    class_names: tuple[str, ...]

    def __init__(
        self,
        files: FileTable,
        labels: np.ndarray,
        left_out: LeftOut,
        decoding: Decoding,
        *,
        captions: bool = False,
    ):
        if captions:
            left_out = LeftOut({what: n for what, n in left_out.items() if what != SUFFIX})
        self.spec = labelled_images(decoding.channels)
        self.labels = labels
        """Of all images, int32 [N]; no file is opened."""
        self._files = files
        self._storage = files.storage
        self._left_out = str(left_out)
        self._decode = decoding

    def __len__(self) -> int:
        return len(self._files)

    def read(self, index: int) -> Example:
        """Reads and decodes the file."""
        return {"image": self._decode(self.encoded(index)), "label": self.labels[index]}

    def encoded(self, index: int) -> bytes:
        """The file's bytes."""
        path = self._files.path(index)
        return (self._storage or storage_of(path)).read(path)

    def captions(self, index: int) -> tuple[str, ...]:
        """The lines of the text file beside it that is called alike, if there is one."""
        path = os.path.splitext(self._files.path(index))[0] + SUFFIX
        found = persistently(lambda: _content(self._storage or storage_of(path), path), path)
        return captions_of_file(found, path)

    def describe(self, index: int) -> str:
        """The file's path."""
        return printable(self._files.path(index))

    def name(self, index: int) -> str:
        """The file's path from the root."""
        return printable(self._files.relative_path(index))

    @property
    def is_remote(self) -> bool:
        """Whether files lie in a bucket."""
        return self._storage is None or self._storage.is_remote

    @property
    def found(self) -> str:
        """How many images there are, and what else lies there."""
        return "; ".join(
            [self._images(), *([f"left out {self._left_out}"] if self._left_out else [])]
        )

    def _images(self) -> str:
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        """Of the files' paths from the root and sizes in order, and the classes' names.

        Sizes are not looked at in buckets.
        """
        return self._asked[0]

    @property
    def version(self) -> str:
        """Of the files' times of change, which are not looked at in buckets."""
        return self._asked[1]

    @cached_property
    def _asked(self) -> tuple[str, str]:
        return fingerprint_and_version(self._files, self.class_names)

    def slicing_order(self) -> np.ndarray:
        """By a hash of the files' paths: any slice holds images of all classes, int64 [N]."""
        return np.argsort(_hashes(self._files), kind="stable")


def fingerprint_and_version(files: FileTable, class_names: Sequence[str]) -> tuple[str, str]:
    """Fingerprint and version of files in classes, for which each file is asked once."""
    sizes, times = asked(files)
    relative = b"\0".join(files.relative())
    return fingerprint_of(relative, sizes, class_names), fingerprint_of(times)


def asked(files: FileTable) -> tuple[bytes, bytes]:
    """The files' sizes and times of change, 8 bytes each; neither is looked at in buckets."""
    storage, paths = files.storage, files.paths()

    def statuses(paths: list[bytes]) -> list[Status]:
        texts = map(os.fsdecode, paths)
        return [(storage or storage_of(path)).known(path) for path in texts]

    # A task for each file would cost several times what asking for its size does.
    parts = [paths[start : start + _FILES] for start in range(0, len(paths), _FILES)]
    with ThreadPoolExecutor(_STAT_THREADS) as threads:
        found = [one for part in threads.map(statuses, parts) for one in part]
    sizes, times = np.array(found, "<i8").reshape(-1, 2).T
    return sizes.tobytes(), times.tobytes()


class _Classes(NamedTuple):
    """What lies in the folders of classes."""

    class_names: tuple[str, ...]
    files: FileTable
    labels: np.ndarray
    """Of the files, int32 [N]."""
    left_out: LeftOut


def _in_classes(top: str, layout: Layout) -> _Classes:
    """Scans the folders of classes.

    Raises:
      UserError: if there are no images, or splits in place of classes.
    """
    folders, place = layout.listing.folders, os.path.join(top, layout.folder)
    names = class_names(folders, place)
    left_out = LeftOut(layout.listing.left_out)
    if layout.listing.images:
        left_out[OUTSIDE] = len(layout.listing.images)
    ancestors = (identity(top), identity(place))
    runs, label_of_run = [], []
    for label, folder in enumerate(folders):
        there = list(scan(top, os.path.join(layout.folder, folder), left_out, ancestors))
        runs += there
        label_of_run += [label] * len(there)
    files = FileTable.of(top, runs)
    if not len(files):
        raise _no_images(place, "class/image.jpg", left_out)
    if layout.drawn:
        check_drawn(runs, top)
    return _Classes(names, files, np.array(label_of_run, np.int32)[files.folder], left_out)


def _hashes(files: FileTable) -> np.ndarray:
    """Of the files' paths from the root, uint64 [N]."""
    return once(("hashes", files), lambda: hashed(files.relative()))


class ImageFolder(ImageFiles):
    """Images in `root/split/class/`, or in `root/class/` with splits drawn from them.

    Classes are the folders, sorted by name; images may lie deeper in them.

    Args:
      root: the folder.
      split: the name of a split; see `distill.data.sources.layout`.
      decoding: how the files become pixels.
      captions: whether text files are captions, and not left out.

    Raises:
      UserError: if there is no such split, there are no images in it, or a folder's name cannot be
        that of a class.
    """

    def __init__(self, root: Path | str, split: str, decoding: Decoding, *, captions: bool = False):
        top = os.fspath(root)
        layout = find_split(top, split)
        # Splits that are drawn lie in one place, and slices of a split too.
        found = once(("classes", top, layout.folder), lambda: _in_classes(top, layout))
        self.class_names, files, labels = found.class_names, found.files, found.labels
        self._drawn_from = ""
        if layout.drawn:
            self._drawn_from = f", drawn from {len(files):,}"
            chosen = within(_hashes(files), layout.drawn)
            files, labels = files.take(chosen), labels[chosen]
        super().__init__(files, labels, found.left_out, decoding, captions=captions)

    def _images(self) -> str:
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        empty = tuple(self.class_names[label] for label in np.flatnonzero(counts == 0))
        without = f"; no images of {abbreviate(empty)}" if empty else ""
        return f"{labelled(len(self), len(self.class_names))}{self._drawn_from}{without}"


class UnlabelledImages(ImageFiles):
    """Every image under `root`, in the order of paths, as one split, `train`; labels are −1.

    Args:
      root: the folder.
      split: `train`.
      decoding: how the files become pixels.
      captions: whether text files are captions, and not left out.

    Raises:
      UserError: if another split is asked for, or there are no images.
    """

    class_names = ()

    def __init__(self, root: Path | str, split: str, decoding: Decoding, *, captions: bool = False):
        top = os.fspath(root)
        open_root(top)
        if split != "train":
            raise MissingSplit(
                f"images:{root} has no split {split!r}: images without labels are one split, "
                "'train'. Set config.data.validation_split=none and config.data.test_split=none, "
                "or name labelled data in config.data.eval_source"
            )
        left_out = LeftOut()
        files = FileTable.of(top, scan(top, "", left_out))
        if not len(files):
            raise _no_images(top, "image.jpg", left_out)
        labels = np.full(len(files), -1, np.int32)
        super().__init__(files, labels, left_out, decoding, captions=captions)

    def _images(self) -> str:
        return f"{count(len(self), 'image')} without labels"


def _content(storage: Storage, path: str) -> bytes:
    """What a file holds; nothing if there is none."""
    try:
        with storage.open(path) as file:
            return file.read()
    except FileNotFoundError:
        return b""


def _no_images(place: str, expected: str, left_out: LeftOut) -> UserError:
    what = f"; left out {left_out}" if left_out else ""
    kinds = " ".join(sorted(suffixes()))
    return UserError(
        f"no images under {printable(place)}{what}. Expected {expected}, in files named {kinds}"
    )


def _opener(kind: type[ImageFolder | UnlabelledImages]) -> Callable[[Request], Source]:
    def opened(request: Request) -> Source:
        what = "image folder"
        root = data_path(request.argument, what)
        storage_of(root).check_reachable(root, what)
        return open_parts(
            request.split,
            lambda whole: kind(root, whole, request.decoding, captions=request.captions),
        )

    return opened


FORMATS = (
    Format(name="folder", argument="PATH", in_buckets=True, open=_opener(ImageFolder)),
    Format(name="images", argument="PATH", in_buckets=True, open=_opener(UnlabelledImages)),
)
