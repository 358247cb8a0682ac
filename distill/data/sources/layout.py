"""Where in a folder a split's images are.

Splits are folders, `root/split/class/`, or, where no folder has a split's name, drawn from
`root/class/` by a hash of each file's path, SplitMix64 of its CRC-32, as a fraction,
train below 0.8, validation below 0.9, test from there. Files that are added stay where they fall
and move no others.
"""

import os
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from distill.data.sources.base import MissingSplit, abbreviate, printable
from distill.data.sources.places import storage_of
from distill.data.sources.scanning import Listing, Run, list_folder
from distill.data.sources.together import once
from distill.errors import UserError
from distill.paths import text_of

# What splits are called, in capitals or not; the names of a line stand for each other.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
_DRAWN = {"train": (0.0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1.0)}


class Layout(NamedTuple):
    """Where the folders of classes are."""

    folder: str
    """Relative to the root; empty where they are in the root itself."""
    listing: Listing
    """What lies there."""
    drawn: tuple[float, float] | None
    """Between which fractions of a path's hash the split's images are; None for all."""


def find_split(root: str, split: str) -> Layout:
    """Finds a split in `root/split/class/` or, without such folders, in `root/class/`.

    Raises:
      UserError: if there is none, or it is not clear which.
    """
    listing = open_root(root)
    where = printable(root)
    folder = _folder_of(split, listing.folders, root)
    if folder is not None:
        return Layout(folder, _classes(root, folder), None)
    splits, standard = (
        [name for name in listing.folders if standard_name(name)],
        standard_name(split),
    )
    if splits or standard is None:
        drawn = (
            ""
            if splits or not listing.folders
            else (
                ". Without folders named as splits, its folders are classes and the splits train, "
                "validation and test are drawn from them"
            )
        )
        raise MissingSplit(
            f"image folder {where} has no split {split!r}; it has {_names(listing.folders)}. "
            f"Expected root/split/class/image.jpg{drawn}"
        )
    if listing.images:
        raise UserError(
            f"image folder {where} holds {_names(listing.images)}"
            + (f" beside the folders {_names(listing.folders)}" if listing.folders else "")
            + ". Expected images in folders, root/class/image.jpg or root/split/class/image.jpg; "
            f"images without labels are images:{where}"
        )
    return Layout("", listing, _DRAWN[standard])


def open_root(root: str) -> Listing:
    """Lists the folder that a source names.

    Raises:
      UserError: if it is not there.
    """
    files = storage_of(root)
    if not files.is_folder(root):
        what = "is not a folder" if files.exists(root) else "does not exist"
        raise UserError(f"image folder {printable(root)} {what}")
    return _listed(root)


def _listed(path: str) -> Listing:
    return once(("listing", path), lambda: list_folder(path))


def standard_name(name: str) -> str | None:
    """`train`, `validation` or `test`, whichever a folder's name says, if any."""
    return next((split for split, names in SPLITS.items() if name.lower() in names), None)


def _folder_of(split: str, folders: list[str], root: str) -> str | None:
    """The folder of that name, or of another name for the same split."""
    if storage_of(root).is_folder(os.path.join(root, split)):
        return split
    return named_split(split, folders, f"image folder {printable(root)}")


def named_split(split: str, names: Iterable[str], what: str) -> str | None:
    """The split's name among several, or the one other name that stands for it.

    Raises:
      UserError: if several others do.
    """
    if split in names:
        return split
    standard = standard_name(split)
    same = [name for name in names if standard and standard_name(name) == standard]
    if len(same) > 1:
        raise UserError(
            f"{what} has no split {split!r}, and {' and '.join(same)} could each be meant; name "
            "one of them"
        )
    return same[0] if same else None


def pick_split(
    split: str, names: Sequence[str], what: str
) -> tuple[str | None, tuple[float, float] | None]:
    """Finds a split among what files are called, or else between which fractions it is drawn.

    Args:
      split: its name.
      names: of what there is; where none of them is a split's usual name, splits are drawn.
      what: has them, for errors.

    Returns:
      The one of `names`, or None; and the fractions of a path's hash, or None for all.

    Raises:
      UserError: if there is none, or it is not clear which.
    """
    if (name := named_split(split, names, what)) is not None:
        return name, None
    standard = standard_name(split)
    if standard is None or any(map(standard_name, names)):
        drawn = "" if any(map(standard_name, names)) else "; train, validation and test are drawn"
        raise MissingSplit(f"{what} has no split {split!r}; it has {_names(list(names))}{drawn}")
    return None, _DRAWN[standard]


def _classes(root: str, folder: str) -> Listing:
    """What lies in a split's folder."""
    listing = _listed(os.path.join(root, folder))
    if listing.images and not listing.folders:
        place = printable(os.path.join(root, folder))
        raise UserError(
            f"{place} holds {_names(listing.images)} and no folders; expected {place}/class/"
            f"image.jpg. If {folder!r} is a class and not a split, give that folder another name"
        )
    return listing


def class_names(folders: Iterable[str], place: str) -> tuple[str, ...]:
    """The names of the classes that folders are of: a line of text each, whatever the locale.

    Letters with marks are one character, as most systems write them, and not two, as some do.

    Raises:
      UserError: naming the first that is not, or is another's name too.
    """
    try:
        names = tuple(unicodedata.normalize("NFC", text_of(folder)) for folder in folders)
    except UserError as error:
        raise UserError(f"a folder in {printable(place)} cannot name a class: {error}") from error
    for name, times in Counter(names).items():
        if times > 1:
            raise UserError(
                f"two folders in {printable(place)} are called {name!r}, in two ways to write its "
                "characters (Unicode's NFC and NFD); give one of them another name"
            )
    return names


def check_drawn(runs: Iterable[Run], root: str) -> None:
    """Checks that folders from which splits are to be drawn do not hold splits themselves.

    Raises:
      UserError: naming the first that does.
    """
    inside: dict[str, set[str]] = {}
    for run in runs:
        folder, *deeper = run.folder.split(os.sep)[:2]
        inside.setdefault(folder, set()).update(filter(standard_name, deeper))
    for folder, names in inside.items():
        if len(set(map(standard_name, names))) > 1:
            raise UserError(
                f"{printable(os.path.join(root, folder))} holds {_names(sorted(names))}, as splits "
                "are called. Expected root/split/class/image.jpg: name the folder that holds the "
                "splits, or put splits above classes"
            )


def hashed(paths: Sequence[bytes]) -> np.ndarray:
    """SplitMix64 of the CRC-32 of each file's path from the root, uint64 [N].

    A hash for cryptography costs as much as listing the files. CRC-32 tells paths apart, and the
    steps by which SplitMix64 turns a counter into random numbers (G. L. Steele et al., "Fast
    Splittable Pseudorandom Number Generators", 2014) scatter what it says of similar ones.
    """
    mixed = np.fromiter(map(zlib.crc32, paths), np.uint64, len(paths))
    mixed += np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def drawn(paths: Sequence[bytes], bounds: tuple[float, float]) -> np.ndarray:
    """Which files the hash of their path puts between two fractions, int64 [M]."""
    return within(hashed(paths), bounds)


def within(hashes: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """Which hashes, uint64 [N], lie between two fractions, int64 [M]."""
    # As many bits as a float holds exactly, so that nothing is rounded up to 1.
    fraction = (hashes >> np.uint64(11)) / 2.0**53
    return np.flatnonzero((bounds[0] <= fraction) & (fraction < bounds[1]))


def _names(names: list[str]) -> str:
    return abbreviate(tuple(map(printable, names))) or "none"
