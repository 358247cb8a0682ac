"""Images with the class of each pixel: masks in folders, as ADE20k's and Pascal VOC's lie."""

import functools
import os
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from distill.data.fast import MAX_PIXELS
from distill.data.sources.base import Source, count, printable
from distill.data.sources.class_lists import lines_of_text, read_class_names
from distill.data.sources.decoding import Decoding
from distill.data.sources.formats import Format, Request
from distill.data.sources.layout import open_root
from distill.data.sources.options import path_and_options
from distill.data.sources.paired_files import Pairs, find_folders, paired, some_of
from distill.data.sources.pixel_values import decode_numbers, labels_of
from distill.data.sources.pixelwise import PixelwiseImages
from distill.data.sources.places import read_if_there, storage_of
from distill.data.sources.scanning import LeftOut
from distill.data.sources.split_lists import listed
from distill.data.sources.splits import open_parts
from distill.data.sources.together import once
from distill.data.spec import MaskSpec
from distill.errors import UserError
from distill.paths import data_path

NAME = "segmentation"
"""Of the mask in examples."""

_OPTIONS = {"classes": "NUMBER", "ignore": "NUMBER", "zero": "ignored"}
_EXPECTED = (
    "images/SPLIT/x.jpg and masks/SPLIT/x.png, SPLIT/images/x.jpg and SPLIT/masks/x.png, "
    "images/SPLIT and annotations/SPLIT as ADE20k has them, or JPEGImages, SegmentationClass and "
    "ImageSets/Segmentation as Pascal VOC has them"
)
_ADE = "annotations"
# Its classes, in a table whose last column is their name.
_ADE_CLASSES = "objectInfo150.txt"
_VOC = "SegmentationClass"
_VOC_LISTS = os.path.join("ImageSets", "Segmentation")
_VOC_CLASSES = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse "
    "motorbike person pottedplant sheep sofa train tvmonitor"
).split()


class Labels(NamedTuple):
    """How the numbers of masks are the classes of a `MaskSpec`."""

    spec: MaskSpec
    first: int
    """The number of the first class."""
    ignored: tuple[int, ...]
    """Numbers that stand for no class."""

    def __call__(self, data: bytes, file: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
        """The classes of a file's pixels."""
        return labels_of(
            decode_numbers(data, file, max_pixels),
            self.spec,
            first=self.first,
            ignored=self.ignored,
            what=printable(file),
        )


def _open_whole(
    root: str, options: Mapping[str, str], decoding: Decoding, captions: bool, split: str
) -> PixelwiseImages:
    kind, pairs = once(("masks", root, split), lambda: _find(root, split))
    labels = _labels(root, kind, options)
    names = labels.spec.class_names
    return PixelwiseImages(
        pairs,
        NAME,
        labels.spec,
        labels,
        decoding,
        said=f"masks of {count(len(names), 'class', 'classes')}",
        options=[names, labels.spec.ignore, labels.first, labels.ignored],
        captions=captions,
    )


def _find(root: str, split: str) -> tuple[str, Pairs]:
    """The folder that masks lie in, and the files of a split."""
    if {"JPEGImages", _VOC} <= {*open_root(root).folders}:
        return _VOC, _of_voc(root, split)
    folders = find_folders(root, split, ("masks", _ADE), _EXPECTED)
    if folders is None:
        raise UserError(f"{printable(root)} has no masks for {split!r}; expected {_EXPECTED}")
    return folders.kind, paired(root, folders, what="mask")


def _of_voc(root: str, split: str) -> Pairs:
    """The images that a list of Pascal VOC names.

    Raises:
      UserError: if there is no such list, or a file that it names.
    """
    file, ids = listed(os.path.join(root, _VOC_LISTS), split, _EXPECTED)
    images = [os.path.join("JPEGImages", f"{one}.jpg") for one in ids]
    masks = [os.path.join(_VOC, f"{one}.png") for one in ids]
    missing = storage_of(root).missing(os.path.join(root, path) for path in (*images, *masks))
    if missing:
        raise UserError(
            f"{printable(file)} names what is not there: {some_of(missing)}. Add these files, or "
            "take their lines out"
        )
    return Pairs.of_paths(root, images, masks, LeftOut())


def _labels(root: str, kind: str, options: Mapping[str, str]) -> Labels:
    zero = options.get("zero", "ignored" if kind == _ADE else "class")
    if zero not in ("ignored", "class"):
        raise UserError(f"masks:{printable(root)}?zero={zero}: expected zero=ignored or zero=class")
    names, first = _class_names(root, kind, options), int(zero == "ignored")
    border = _number(root, options, "ignore", 255)
    if first <= border < first + len(names):
        raise UserError(
            f"masks:{printable(root)}: {border} would stand for no class, and for "
            f"{names[border - first]!r}; name another number, ?ignore=65535"
        )
    spec = MaskSpec(names, ignore=255 if len(names) <= 255 else -1)
    return Labels(spec, first, (0, border) if first else (border,))


def _class_names(root: str, kind: str, options: Mapping[str, str]) -> tuple[str, ...]:
    names = read_class_names(root)
    if not names and kind == _ADE:
        names = _of_ade(os.path.join(root, _ADE_CLASSES))
    if not names and kind == _VOC:
        names = tuple(_VOC_CLASSES)
    if "classes" not in options:
        if not names:
            raise UserError(
                f"{printable(root)} does not say which classes its masks have; write their names "
                "into classes.txt there, one a line in the order of their numbers, or say how many "
                "there are: masks:PATH?classes=NUMBER"
            )
        return names
    classes = _number(root, options, "classes", 0)
    if names and len(names) != classes:
        raise UserError(f"{printable(root)} lists {len(names)} classes, and not {classes}")
    return names or tuple(map(str, range(classes)))


def _of_ade(file: str) -> tuple[str, ...]:
    content = read_if_there(file)
    if content is None:
        return ()
    rows = [line.split("\t") for line in content.decode("utf-8", "replace").splitlines() if line]
    rows = [row for row in rows if row[0].strip().isdigit()]
    if [int(row[0]) for row in rows] != [*range(1, len(rows) + 1)]:
        raise UserError(f"{printable(file)} does not number classes from 1; write classes.txt")
    return lines_of_text([row[-1].strip() for row in rows], printable(file))


def _number(root: str, options: Mapping[str, str], option: str, default: int) -> int:
    text = options.get(option, str(default))
    if not (text.isascii() and re.fullmatch(r"\d{1,5}", text)) or int(text) >= 2**16:
        raise UserError(f"masks:{printable(root)}?{option}={text}: expected a number below 65536")
    return int(text)


def _open(request: Request) -> Source:
    path, options = path_and_options(request.argument, _OPTIONS)
    root = data_path(path, "folder of masks")
    storage_of(root).check_reachable(root, "folder of masks")
    return open_parts(
        request.split,
        functools.partial(_open_whole, root, options, request.decoding, request.captions),
    )


FORMATS = (Format(name="masks", argument="PATH", in_buckets=True, open=_open),)
