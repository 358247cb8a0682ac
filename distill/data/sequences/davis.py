"""Sequences with the objects of each pixel, in the layout of DAVIS 2017 (arXiv 1704.00675)."""

import os
from collections.abc import Mapping

from distill.data.sequences.frame_files import FrameFiles, in_order
from distill.data.sources.base import abbreviate, printable
from distill.data.sources.decoding import Decoding
from distill.data.sources.layout import open_root
from distill.data.sources.masks import NAME, Labels
from distill.data.sources.paired_files import Pairs, by_stem, files_below, pair
from distill.data.sources.pixelwise import PixelwiseImages
from distill.data.sources.places import storage_of
from distill.data.sources.scanning import LeftOut, list_folder
from distill.data.sources.split_lists import listed
from distill.data.spec import MaskSpec
from distill.errors import UserError

OBJECTS = MaskSpec(("background", *(f"object {number}" for number in range(1, 255))))
"""Of masks: which of its sequence's objects a pixel is of, 0 for none; 255 is not known."""

_IMAGES, _MASKS = "JPEGImages", "Annotations"
_LISTS = os.path.join("ImageSets", "2017")
_EXPECTED = (
    f"{_IMAGES}/480p/SEQUENCE/00000.jpg, {_MASKS}/480p/SEQUENCE/00000.png and {_LISTS}/SPLIT.txt"
)


def open_davis(root: str, split: str, decoding: Decoding, options: Mapping[str, str]) -> FrameFiles:
    """Opens the sequences that `ImageSets/2017/SPLIT.txt` names, in its order.

    Examples hold `segmentation`, the number of each pixel's object, the index into the palette of
    its PNG.

    Args:
      root: the folder.
      split: the list's name.
      decoding: how frames become pixels.
      options: `resolution`, the folder in `JPEGImages` and `Annotations`; without it `480p`, or the
        only one.

    Raises:
      UserError: if there is no such list or sequence, or a frame has no mask, or a mask no frame.
    """
    resolution = options.get("resolution") or _resolution(root)
    left_out = LeftOut()
    images, masks, lengths = [], [], []
    open_root(root)
    _, names = listed(os.path.join(root, _LISTS), split, _EXPECTED)
    for name in names:
        frames, annotated = (
            _files(root, os.path.join(kind, resolution), name, left_out)
            for kind in (_IMAGES, _MASKS)
        )
        joined = pair(frames, annotated, what="mask", place=root)
        images += joined[0]
        masks += joined[1]
        lengths.append(len(joined[0]))
    pairs = Pairs.of_paths(root, images, masks, left_out)
    labels = Labels(OBJECTS, first=0, ignored=(OBJECTS.ignore,))
    source = PixelwiseImages(pairs, NAME, OBJECTS, labels, decoding, said="masks of objects")
    return FrameFiles(
        source,
        lengths,
        list(map(printable, names)),
        root=printable(os.path.join(root, _IMAGES, resolution)),
        left_out=str(left_out),
    )


def _files(root: str, above: str, name: str, left_out: LeftOut) -> dict[str, str]:
    """The files of a sequence in order, by their paths below a folder without suffixes."""
    folder = os.path.join(above, name)
    there = storage_of(root).is_folder(os.path.join(root, folder))
    paths = files_below(root, folder, left_out) if there else []
    if not paths:
        raise UserError(
            f"{printable(os.path.join(root, folder))} holds no frames; expected {_EXPECTED}"
        )
    return by_stem(root, in_order(paths), above)


def _resolution(root: str) -> str:
    place = os.path.join(root, _IMAGES)
    there = list_folder(place).folders if storage_of(root).is_folder(place) else []
    if "480p" in there or not there:
        return "480p"
    if len(there) > 1:
        raise UserError(
            f"{printable(place)} holds {abbreviate(tuple(there))}; name one of them after the "
            "path, ?resolution=NAME"
        )
    return there[0]
