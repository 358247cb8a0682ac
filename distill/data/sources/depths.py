"""Images with the depth of each pixel, in folders."""

import functools
import math
import os
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from distill.data.fast import MAX_PIXELS
from distill.data.sources.base import Source, printable
from distill.data.sources.decoding import Decoding
from distill.data.sources.formats import Format, Request
from distill.data.sources.layout import named_split, open_root
from distill.data.sources.options import path_and_options
from distill.data.sources.paired_files import (
    Pairs,
    by_stem,
    files_below,
    find_folders,
    pair,
    paired,
)
from distill.data.sources.pixel_values import decode_depth
from distill.data.sources.pixelwise import PixelwiseImages
from distill.data.sources.places import storage_of
from distill.data.sources.scanning import LeftOut
from distill.data.sources.splits import open_parts
from distill.data.sources.together import once
from distill.data.spec import ValuesSpec
from distill.errors import UserError
from distill.paths import data_path

NAME = "depth"
"""Of the depth in examples."""

_ARRAY = ".npy"
_EXPECTED = (
    "SPLIT/x.jpg and SPLIT/x.png or x.npy, SPLIT/images/x.jpg and SPLIT/depth/x.png, or "
    "images/SPLIT/x.jpg and depth/SPLIT/x.png"
)


class Depths(NamedTuple):
    """How files are depths."""

    divisor: float | None
    """Of whole numbers; None where it was not said."""

    def __call__(self, data: bytes, file: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
        """The depth of a file's pixels."""
        return decode_depth(data, file, self.divisor, max_pixels)


def _open_whole(
    root: str, divisor: float | None, decoding: Decoding, captions: bool, split: str
) -> PixelwiseImages:
    return PixelwiseImages(
        once(("depths", root, split), lambda: _find(root, split)),
        NAME,
        ValuesSpec(),
        Depths(divisor),
        decoding,
        said="depth",
        options=divisor,
        captions=captions,
    )


def _find(root: str, split: str) -> Pairs:
    also = frozenset({_ARRAY})
    folders = find_folders(root, split, ("depth", "depths"), _EXPECTED)
    if folders is not None:
        return paired(root, folders, what="depth", also=also)
    name = named_split(split, open_root(root).folders, printable(root)) or split
    left_out = LeftOut()
    files = files_below(root, name, left_out, also)
    images, depths = _apart(files)
    joined = pair(
        by_stem(root, images, name), by_stem(root, depths, name), what="depth", place=root
    )
    return Pairs.of_paths(root, *joined, left_out)


def _apart(files: Iterable[str]) -> tuple[list[str], list[str]]:
    """Which of the files in one folder are images, and which depths: arrays, else PNGs."""
    files = list(files)
    with_array = {os.path.splitext(one)[0] for one in files if _suffix(one) == _ARRAY}
    images, depths = [], []
    for file in files:
        stem, suffix = os.path.splitext(file)
        is_depth = suffix.lower() == (_ARRAY if stem in with_array else ".png")
        (depths if is_depth else images).append(file)
    return images, depths


def _suffix(file: str) -> str:
    return os.path.splitext(file)[1].lower()


def _divisor(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UserError(f"?divisor={text}: expected a number above 0, such as 1000")
    return value


def _open(request: Request) -> Source:
    path, options = path_and_options(request.argument, {"divisor": "NUMBER"})
    root = data_path(path, "folder of depths")
    storage_of(root).check_reachable(root, "folder of depths")
    divisor = _divisor(options["divisor"]) if options else None
    return open_parts(
        request.split,
        functools.partial(_open_whole, root, divisor, request.decoding, request.captions),
    )


FORMATS = (Format(name="depth", argument="PATH", in_buckets=True, open=_open),)
