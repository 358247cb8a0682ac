"""The source that a config names."""

from pathlib import Path

from distill.data.sources.base import Source
from distill.data.sources.digits import Digits
from distill.data.sources.folders import ImageFolder, UnlabelledImages
from distill.data.sources.records import TfdsSource
from distill.data.sources.splits import open_parts
from distill.errors import UserError
from distill.paths import check_reachable, local_path


def open_source(
    name: str,
    split: str,
    *,
    channels: int,
    data_dir: str | None = None,
    exif_orientation: bool = False,
) -> Source:
    """Opens the split of the source a config names.

    Args:
      name: `digits`, `folder:PATH`, `images:PATH` or `tfds:NAME`.
      split: the split's name, or slices such as `train[:98%]` or `train[:10%]+train[90%:]`.
      channels: 1 for grey or 3 for colour; images are converted.
      data_dir: where TFDS keeps its data sets; None for its default.
      exif_orientation: whether images are turned as their EXIF orientation says.

    Raises:
      UserError: if there is no such source or split, or it is empty.
    """
    kind, _, argument = name.partition(":")
    if kind == "digits" and not argument:
        source = open_parts(split, lambda whole: Digits(whole, channels))
    elif kind == "folder" and argument:
        root = _root(argument)
        source = open_parts(
            split, lambda whole: ImageFolder(root, whole, channels, exif_orientation)
        )
    elif kind == "images" and argument:
        root = _root(argument)
        source = open_parts(
            split, lambda whole: UnlabelledImages(root, whole, channels, exif_orientation)
        )
    elif kind == "tfds" and argument:
        source = TfdsSource(argument, split, channels, data_dir, exif_orientation)
    else:
        raise UserError(
            f"unknown data source {name!r}; expected digits, folder:PATH, images:PATH or tfds:NAME"
        )
    if not len(source):
        raise UserError(
            f"split {split!r} of {name} holds no images ({source.found}). A run does without "
            "images to evaluate on: config.data.test_split=none, config.data.validation_split=none"
        )
    return source


def _root(path: str) -> Path:
    return check_reachable(Path(local_path(path, "image folder")), "image folder")
