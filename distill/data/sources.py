"""Where images come from: random-access collections of images, most of them labelled.

A source is named in a config by one string: `digits`, `folder:PATH`, `images:PATH` or `tfds:NAME`.
"""

import functools
import io
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from absl import logging
from PIL import Image

from distill.errors import UserError
from distill.paths import check_reachable, local_path, text_of

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")

# Records whose labels are read at once, and seconds between lines that say how far it is.
_RECORDS, _PATIENCE = 1024, 20.0


class CorruptImage(Exception):
    """An image that cannot be decoded; carries the reason."""


class Source(Protocol):
    """A fixed, ordered collection of images, read by index."""

    class_names: tuple[str, ...]
    """Empty where images have no labels."""
    channels: int

    def __len__(self) -> int:
        """Number of images."""

    @property
    def labels(self) -> np.ndarray:
        """Of all images, int32 [N], −1 for an image without; no image is decoded."""

    def read(self, index: int) -> tuple[np.ndarray, int]:
        """The image, uint8 [height, width, channels], and its label.

        Raises:
          CorruptImage: if the image cannot be decoded.
        """

    def describe(self, index: int) -> str:
        """What a person needs to find the image: a file's path or a record's number."""


def open_source(name: str, split: str, *, channels: int, data_dir: str | None = None) -> Source:
    """Opens the split of the source a config names.

    Args:
      name: `digits`, `folder:PATH`, `images:PATH` or `tfds:NAME`.
      split: the split's name; for TFDS also a slice such as `train[:98%]`.
      channels: 1 for grey or 3 for colour; images are converted.
      data_dir: where TFDS keeps its data sets; None for its default.

    Raises:
      UserError: if there is no such source or split, or it is empty.
    """
    kind, _, argument = name.partition(":")
    if kind == "digits" and not argument:
        source = Digits(split, channels)
    elif kind == "folder" and argument:
        source = ImageFolder(_root(argument), split, channels)
    elif kind == "images" and argument:
        source = UnlabelledImages(_root(argument), split, channels)
    elif kind == "tfds" and argument:
        source = TfdsSource(argument, split, channels, data_dir)
    else:
        raise UserError(
            f"unknown data source {name!r}; expected digits, folder:PATH, images:PATH or tfds:NAME"
        )
    if not len(source):
        raise UserError(f"split {split!r} of {name} holds no images")
    return source


def _root(path: str) -> Path:
    return check_reachable(Path(local_path(path, "image folder")), "image folder")


def decode(data: bytes | Path, channels: int) -> np.ndarray:
    """Decodes an encoded image to uint8 [height, width, channels].

    Raises:
      CorruptImage: if it is truncated, no image, or implausibly large.
    """
    mode = {1: "L", 3: "RGB"}[channels]
    try:
        with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as image:
            if image.mode.startswith("I;16"):
                # Pillow's own conversion clips at 255.
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            pixels = np.asarray(image.convert(mode))
    # What Pillow raises on damaged files: mostly OSError, but its decoders also let these through.
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise CorruptImage(str(error)) from error
    return pixels if channels == 3 else pixels[..., None]


class Digits:
    """Scikit-learn's handwritten digits: 1797 real scans, 8×8, shipped with the package.

    The split is fixed: 1197 train, 240 validation and 360 test images, each with the classes in
    the same proportions (E. Alpaydin and C. Kaynak, UCI, 1998).
    """

    SIZES: ClassVar = {"train": 1197, "validation": 240, "test": 360}
    class_names = tuple("0123456789")

    def __init__(self, split: str, channels: int):
        if split not in self.SIZES:
            raise UserError(f"digits has no split {split!r}; it has {', '.join(self.SIZES)}")
        from sklearn.datasets import load_digits

        self.channels = channels
        digits = load_digits()
        ends = np.cumsum(list(self.SIZES.values()))
        parts = dict(
            zip(self.SIZES, np.split(_stratified_order(digits.target), ends[:-1]), strict=True)
        )
        self._numbers = np.sort(parts[split])
        # 17 grey levels, 0 to 16.
        images = np.round(digits.images[self._numbers] * (255 / 16)).astype(np.uint8)
        self._images = np.repeat(images[..., None], channels, axis=-1)
        self.labels = digits.target[self._numbers].astype(np.int32)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> tuple[np.ndarray, int]:
        """The scan and its digit."""
        return self._images[index], int(self.labels[index])

    def describe(self, index: int) -> str:
        """The scan's number in `load_digits()`."""
        return f"digits image {self._numbers[index]}"


def _stratified_order(labels: np.ndarray) -> np.ndarray:
    """A fixed order of all indices in which every stretch holds the classes in proportion."""
    rng = np.random.default_rng(0)
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        position[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(position, kind="stable")


class _ImageFiles:
    """Images in files, each with its label."""

    _files: list[tuple[Path, int]]

    def __len__(self) -> int:
        return len(self._files)

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """Of all images, int32 [N]; no file is opened."""
        return np.array([label for _, label in self._files], np.int32)

    def read(self, index: int) -> tuple[np.ndarray, int]:
        """Decodes the file."""
        path, label = self._files[index]
        return decode(path, self.channels), label

    def describe(self, index: int) -> str:
        """The file's path."""
        return str(self._files[index][0])


class ImageFolder(_ImageFiles):
    """Images in `root/split/class/*.jpg|png|webp`; classes are the sorted folder names."""

    def __init__(self, root: Path, split: str, channels: int):
        if not root.is_dir():
            raise UserError(f"image folder {root} does not exist")
        folder = root / split
        if not folder.is_dir():
            found = sorted(p.name for p in root.iterdir() if p.is_dir())
            raise UserError(
                f"image folder {root} has no split {split!r}; it has {', '.join(found) or 'none'}. "
                "Expected root/split/class/image.jpg"
            )
        classes = [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
        by_name = dict(sorted((text_of(path.name), path) for path in classes))
        self.class_names = tuple(by_name)
        self.channels = channels
        self._files = [
            (path, label)
            for label, name in enumerate(self.class_names)
            for path in _image_files(by_name[name])
        ]
        if not self._files:
            raise UserError(
                f"no images under {folder}; expected {folder}/class/*{'|'.join(IMAGE_SUFFIXES)}"
            )


class UnlabelledImages(_ImageFiles):
    """Every image under `root`, in the order of paths, as one split, `train`; labels are −1."""

    class_names = ()

    def __init__(self, root: Path, split: str, channels: int):
        if not root.is_dir():
            raise UserError(f"image folder {root} does not exist")
        if split != "train":
            raise UserError(
                f"images:{root} has no split {split!r}: images without labels are one split, "
                "'train'. Set config.data.validation_split=none and config.data.test_split=none, "
                "or name labelled data in config.data.eval_source"
            )
        self.channels = channels
        self._files = [(path, -1) for path in _image_files(root)]
        if not self._files:
            raise UserError(f"no images under {root}; expected *{'|'.join(IMAGE_SUFFIXES)}")


def _image_files(folder: Path) -> Iterator[Path]:
    """All images under a folder at any depth, in the order of their paths."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            yield path


class TfdsSource:
    """A TensorFlow Datasets data set prepared as `array_record`, read without TensorFlow."""

    def __init__(self, name: str, split: str, channels: int, data_dir: str | None):
        try:
            import tensorflow_datasets as tfds
        except ModuleNotFoundError as error:
            raise UserError(
                "tfds: sources need tensorflow-datasets; install it with pip install -e '.[tfds]'"
            ) from error
        self.name, self.split, self.channels = name, split, channels
        try:
            builder = tfds.builder(name, data_dir=data_dir)
        except (tfds.core.DatasetNotFoundError, ValueError, AssertionError) as error:
            raise UserError(f"TFDS has no data set {name!r}: {_first_line(error)}") from error
        features = builder.info.features
        if features is None or "image" not in features or "label" not in features:
            raise UserError(f"TFDS data set {name!r} has no features named image and label")
        stored = builder.info.file_format.value
        if not builder.is_prepared():
            raise UserError(
                f"TFDS data set {name!r} is not prepared in {builder.data_dir}; prepare it with "
                f"tfds.builder({name!r}, data_dir={data_dir!r}, file_format='array_record')"
                ".download_and_prepare()"
            )
        if stored != "array_record":
            raise UserError(
                f"TFDS data set {name!r} is stored as {stored}, which cannot be read at random; "
                f"prepare it with tfds.builder({name!r}, data_dir=ANOTHER, "
                "file_format='array_record').download_and_prepare() and set "
                "config.data.data_dir=ANOTHER"
            )
        try:
            self._records: Sequence[Any] = builder.as_data_source(
                split=split, decoders={"image": tfds.decode.SkipDecoding()}
            )
        except (ValueError, AssertionError, NotImplementedError) as error:
            if "0 length" in str(error):
                raise UserError(f"split {split!r} of tfds:{name} holds no images") from error
            raise UserError(
                f"TFDS data set {name!r}, split {split!r}: {_first_line(error)}"
            ) from error
        self.class_names = tuple(features["label"].names)

    def __len__(self) -> int:
        return len(self._records)

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """Of all images, int32 [N]; every record is read for it, once."""
        labels = np.empty(len(self), np.int32)
        said = time.monotonic()
        for start in range(0, len(self), _RECORDS):
            indices = range(start, min(start + _RECORDS, len(self)))
            labels[indices] = [r["label"] for r in self._records.__getitems__(indices)]
            if time.monotonic() - said > _PATIENCE:
                said = time.monotonic()
                logging.warning(
                    "reading labels of %s %s: %d of %d",
                    self.name,
                    self.split,
                    indices.stop,
                    len(self),
                )
        return labels

    def read(self, index: int) -> tuple[np.ndarray, int]:
        """Decodes the record."""
        record = self._records[index]
        return decode(record["image"], self.channels), int(record["label"])

    def describe(self, index: int) -> str:
        """The record's place in its split."""
        return f"{self.name} {self.split} record {index}"


def abbreviate(names: tuple[str, ...]) -> str:
    """The names of a few classes, or the first and the last of many."""
    return ", ".join(names) if len(names) <= 10 else f"{', '.join(names[:8])}, … {names[-1]}"


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
