"""Which files of folders belong together by their names: an image, and what is known of it."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from distill.data.sources.base import MissingSplit, abbreviate, printable
from distill.data.sources.file_table import FileTable
from distill.data.sources.layout import named_split, open_root, standard_name
from distill.data.sources.scanning import LeftOut, list_folder, scan
from distill.errors import UserError

# How many names of files an error lists.
_NAMED = 3


class Pairs(NamedTuple):
    """Images in order, and the other file of each."""

    images: FileTable
    others: FileTable
    left_out: LeftOut

    @classmethod
    def of_paths(
        cls, root: str, images: Sequence[str], others: Sequence[str], left_out: LeftOut
    ) -> "Pairs":
        """Those of paths from the root, one beside the other."""
        return cls(FileTable.of_paths(root, images), FileTable.of_paths(root, others), left_out)


def pair(
    images: Mapping[str, str], others: Mapping[str, str], *, what: str, place: str
) -> tuple[list[str], list[str]]:
    """Joins files of one name, in the order of the images.

    Args:
      images: by what has to be equal, their paths from a root.
      others: alike.
      what: the others are called, such as "mask".
      place: both lie in, for errors.

    Raises:
      UserError: naming files that are alone.
    """
    lone = [path for key, path in images.items() if key not in others]
    extra = [path for key, path in others.items() if key not in images]
    found = [
        f"{_number(len(paths), of)} without {missing}: {some_of(paths)}"
        for paths, of, missing in ((lone, "image", what), (extra, what, "image"))
        if paths
    ]
    if found:
        raise UserError(
            f"{printable(place)} holds {'; and '.join(found)}. Expected one {what} for each image, "
            "called alike but for the suffix: add what is missing, or remove what is alone"
        )
    return list(images.values()), [others[key] for key in images]


def by_stem(root: str, paths: Iterable[str], above: str) -> dict[str, str]:
    """Files by their paths below a folder, without suffixes.

    Args:
      root: what paths are relative to, for errors.
      paths: of files.
      above: the folder, from the root.

    Raises:
      UserError: naming two that differ in their suffix alone.
    """
    found: dict[str, str] = {}
    for path in paths:
        key = os.path.splitext(os.path.relpath(path, above))[0]
        if key in found:
            raise UserError(
                f"{printable(root)} holds {printable(found[key])} and {printable(path)}, and either"
                " could be meant; remove one"
            )
        found[key] = path
    return found


def files_below(
    root: str, folder: str, left_out: LeftOut, also: frozenset[str] = frozenset()
) -> list[str]:
    """The images under a folder, and files of other suffixes, by their paths from the root."""
    return [
        os.path.join(run.folder, name)
        for run in scan(root, folder, left_out, also=also)
        for name in run.images
    ]


class Folders(NamedTuple):
    """Where a split's images and their other files lie, from the root."""

    images: str
    others: str
    kind: str
    """What the folder of the others is called."""


def find_folders(root: str, split: str, kinds: Sequence[str], expected: str) -> Folders | None:
    """Finds `images/SPLIT` and `KIND/SPLIT`, or `SPLIT/images` and `SPLIT/KIND`.

    Args:
      root: the folder.
      split: its name, or one that stands for it.
      kinds: what the folder of the others may be called; the first that is there counts.
      expected: layouts, for errors.

    Returns:
      None where neither is there, but a folder of the split's name.

    Raises:
      UserError: if there is no such split, or only one half of it.
    """
    top, where = open_root(root).folders, printable(root)
    kind = next((one for one in kinds if one in top), None)
    if "images" in top and kind:
        splits = list_folder(os.path.join(root, "images")).folders
        name = _split(split, splits, os.path.join(root, "images"), expected)
        if name not in list_folder(os.path.join(root, kind)).folders:
            raise UserError(
                f"{where} holds images/{printable(name)}, but no {kind}/{printable(name)}; "
                f"expected {expected}"
            )
        return Folders(os.path.join("images", name), os.path.join(kind, name), kind)
    if "images" in top and not any(map(standard_name, top)):
        raise UserError(f"{where} holds images, but no {' or '.join(kinds)}; expected {expected}")
    name = _split(split, top, root, expected)
    inside = list_folder(os.path.join(root, name)).folders
    kind = next((one for one in kinds if one in inside), None)
    if "images" not in inside or kind is None:
        return None
    return Folders(os.path.join(name, "images"), os.path.join(name, kind), kind)


def paired(root: str, folders: Folders, *, what: str, also: frozenset[str] = frozenset()) -> Pairs:
    """The files of two folders that are called alike.

    Args:
      root: of all.
      folders: where they are.
      what: the others are called.
      also: suffixes of others that are no images.

    Raises:
      UserError: naming files that are alone.
    """
    left_out = LeftOut()
    images = files_below(root, folders.images, left_out)
    others = files_below(root, folders.others, left_out, also)
    joined = pair(
        by_stem(root, images, folders.images),
        by_stem(root, others, folders.others),
        what=what,
        place=root,
    )
    return Pairs.of_paths(root, *joined, left_out)


def _split(split: str, names: Sequence[str], place: str, expected: str) -> str:
    name = named_split(split, names, printable(place))
    if name is None:
        there = abbreviate(tuple(map(printable, names))) or "none"
        raise MissingSplit(
            f"{printable(place)} has no split {split!r}; it has the folders {there}. "
            f"Expected {expected}"
        )
    return name


def _number(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' if number > 1 else ''}"


def some_of(paths: Sequence[str]) -> str:
    """The first of many paths, and how many more there are, for errors."""
    rest = f" and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
    return ", ".join(map(printable, paths[:_NAMED])) + rest
