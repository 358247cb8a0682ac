"""What lies in folders: the image files, in a fixed order, and what is left out.

Written for millions of files on network file systems: a folder is listed once, and a file is not
asked for anything that the list does not tell.
"""

import bisect
import collections
import functools
import os
from collections.abc import Hashable, Iterator
from typing import NamedTuple

from distill.data.sources.base import count, printable
from distill.data.sources.bucket_files import ODD
from distill.data.sources.decoding import suffixes
from distill.data.sources.places import storage_of

# Kinds of files that a `LeftOut` names; the others it counts together.
_NAMED = 5

# What is left out beside files of other kinds, which go by their suffixes.
OUTSIDE = "image outside the folders of classes"
DEEPER = "folder in a folder"
_LOOPING = "looping link"
_PLURALS = {
    OUTSIDE: "images outside the folders of classes",
    DEEPER: "folders in folders",
    ODD: "objects whose name is no path",
}


class LeftOut(collections.Counter):
    """Counts, by suffix or by what else it is, what a scan does not read."""

    def __str__(self) -> str:
        """Such as `8 .heic, 1 .db, 1 dangling link`; empty if nothing was left out."""
        others = {what: number for what, number in self.items() if what[:1] not in (".", "")}
        kinds = [kind for kind in self.most_common() if kind[0] not in others]
        kinds.sort(key=lambda kind: (-kind[1], kind[0]))
        texts = [
            f"{number:,} {printable(suffix) or 'without a suffix'}"
            for suffix, number in kinds[:_NAMED]
        ]
        if rest := sum(number for _, number in kinds[_NAMED:]):
            texts.append(f"… and {count(rest, 'other')}")
        texts += [count(number, what, _PLURALS.get(what)) for what, number in others.items()]
        return ", ".join(texts)


class Listing(NamedTuple):
    """What lies directly in a folder, sorted by name."""

    folders: list[str]
    """Links to folders too."""
    images: list[str]
    left_out: LeftOut


class Run(NamedTuple):
    """Images that follow each other in one folder."""

    folder: str
    """Relative to the root of the scan."""
    images: list[str]


def list_folder(path: str, also: frozenset[str] = frozenset()) -> Listing:
    """Lists a folder; what is hidden, and what macOS adds to archives, is passed over in silence.

    Args:
      path: the folder.
      also: suffixes, in lower case with their dots, of files that are listed among images.

    Raises:
      RunFailed: if the system fails to list it; one that may not be listed is left out.
    """
    found = storage_of(path).entries(path)
    left_out = LeftOut(found.others)
    images = _images(_visible(found.files), left_out, also)
    return Listing(_visible(found.folders), images, left_out)


def _visible(names: list[str]) -> list[str]:
    """The names that count, sorted."""
    names.sort()
    # Hidden names stand together, before those that begin with the character after a dot.
    del names[bisect.bisect_left(names, ".") : bisect.bisect_left(names, "/")]
    return [name for name in names if name != "__MACOSX"]


def _images(names: list[str], left_out: LeftOut, also: frozenset[str]) -> list[str]:
    """Which files are images, or also wanted, by their suffixes; the others are counted."""
    short, long = _usual_ends()
    images = [name for name in names if name[-4:] in short or name[-5:] in long]
    if len(images) == len(names):
        return images
    known, usual = suffixes() | also, set(images)
    images = []
    for name in names:
        if name in usual:
            images.append(name)
            continue
        suffix = os.path.splitext(name)[1].lower()
        if suffix in known:
            images.append(name)
        else:
            left_out[suffix] += 1
    return images


@functools.cache
def _usual_ends() -> tuple[frozenset[str], frozenset[str]]:
    """How most names of images end, in 4 characters and in 5.

    Looking at an end is faster than looking for the last dot, and ImageNet has .JPEG.
    """
    known = {written for one in suffixes() for written in (one, one.upper())}
    short, long = (frozenset(one for one in known if len(one) == size) for size in (4, 5))
    return short, long


def scan(
    root: str,
    folder: str,
    left_out: LeftOut,
    ancestors: tuple[Hashable, ...] = (),
    also: frozenset[str] = frozenset(),
) -> Iterator[Run]:
    """All images under a folder at any depth, in the order of their paths' parts.

    Links are followed, except to a folder that they lie in.

    Args:
      root: what paths are relative to.
      folder: to scan, relative to the root.
      left_out: counts what is not an image.
      ancestors: of folders that it lies in, to which links are not followed either.
      also: suffixes of files that are found among images; see `list_folder`.

    Raises:
      RunFailed: if the system fails to list a folder.
    """
    todo: list[Run | tuple[str, tuple[Hashable, ...]]] = [(folder, ancestors)]
    while todo:
        item = todo.pop()
        if isinstance(item, Run):
            yield item
            continue
        folder, ancestors = item
        path = os.path.join(root, folder)
        here = identity(path)
        if here in ancestors:
            left_out[_LOOPING] += 1
            continue
        listing = list_folder(path, also)
        left_out.update(listing.left_out)
        todo += reversed(list(_in_order(folder, listing, (*ancestors, here))))


def _in_order(
    folder: str, listing: Listing, ancestors: tuple[Hashable, ...]
) -> Iterator[Run | tuple[str, tuple[Hashable, ...]]]:
    """Images and folders in one order of names, images in runs."""
    start = 0
    for name in listing.folders:
        stop = bisect.bisect(listing.images, name)
        if stop > start:
            yield Run(folder, listing.images[start:stop])
        yield os.path.join(folder, name), ancestors
        start = stop
    if start < len(listing.images):
        yield Run(folder, listing.images[start:])


def identity(path: str) -> Hashable:
    """By which a folder is known again."""
    return storage_of(path).identity(path)
