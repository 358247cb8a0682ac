"""Shards of a data set: the files that a path, a pattern or a folder names."""

import itertools
import math
import os
import re
from collections.abc import Callable
from typing import NamedTuple

from distill.data.sources.base import count, printable
from distill.data.sources.class_lists import LISTS
from distill.data.sources.places import storage_of
from distill.data.sources.scanning import DEEPER, LeftOut
from distill.data.sources.storage import Storage
from distill.errors import UserError

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,18})\.\.(\d{1,18})")
_SPECIAL = re.compile(r"[{*?\[]")
# Files that braces may stand for; more is a mistake, and would take all memory.
_MOST = 1_000_000
# What lies beside shards and says something of them.
_ABOUT = (*LISTS, "README.md", "dataset_dict.json", "features.json", "state.json")


class Shards(NamedTuple):
    """Files under a folder, in order."""

    root: str
    names: tuple[str, ...]
    """Their paths from the root."""
    pattern: str
    """What chose them of the root; empty for all."""
    left_out: LeftOut
    """What else lies in a folder of them, by suffix."""


def find_shards(argument: str, is_shard: Callable[[str], bool], expected: str) -> Shards:
    """The shards in a folder and the folders in it, of a pattern, or the one shard.

    Args:
      argument: a path; a pattern of the shell with `*`, `?`, `[…]`; or one with braces, such as
        `train-{000000..000146}.tar` or `{train,val}-0.tar`, whose order is kept.
      is_shard: whether a file of this name in a folder is one.
      expected: what they are called, for errors.

    Raises:
      UserError: if there are none, one that braces name is not there, or they name too many.
    """
    there = storage_of(argument)
    if there.is_folder(argument):
        return _in_folder(argument, is_shard, expected)
    special = _SPECIAL.search(argument)
    if special is None or there.exists(argument):
        files = [argument]
        root = os.path.dirname(argument)
    else:
        files = [file for pattern in _expanded(argument) for file in _matching(there, pattern)]
        root = os.path.dirname(argument[: special.start()])
    if not files:
        raise UserError(f"no file is called {printable(argument)}; expected {expected}")
    if missing := there.missing(files):
        more = f" and {count(len(missing) - 1, 'other')}" if len(missing) > 1 else ""
        raise UserError(f"{printable(missing[0])}{more} of {printable(argument)} cannot be found")
    names = tuple(os.path.relpath(file, root) for file in dict.fromkeys(files))
    return Shards(root, names, os.path.relpath(argument, root), LeftOut())


def _in_folder(folder: str, is_shard: Callable[[str], bool], expected: str) -> Shards:
    names, others, left_out = [], [], LeftOut()
    is_folder = storage_of(folder).is_folder
    for name in sorted(_visible(folder)):
        path = os.path.join(folder, name)
        inside = [""] if not is_folder(path) else sorted(_visible(path))
        files = [os.path.join(name, one) if one else name for one in inside]
        names += [file for file in files if is_shard(file)]
        others += [file for file in files if not is_shard(file)]
    if not names:
        there = ", ".join(map(printable, others[:5])) or "nothing"
        raise UserError(f"{printable(folder)} holds {there}, and no shards; expected {expected}")
    for file in others:
        if is_folder(os.path.join(folder, file)):
            left_out[DEEPER] += 1
        elif os.path.basename(file) not in _ABOUT:
            left_out[os.path.splitext(file)[1].lower()] += 1
    return Shards(folder, tuple(names), "", left_out)


def _visible(folder: str) -> list[str]:
    try:
        return [name for name in storage_of(folder).names(folder) if not name.startswith(".")]
    except OSError as error:
        raise UserError(f"{printable(folder)} cannot be listed: {error.strerror}") from error


def _expanded(pattern: str) -> list[str]:
    """The patterns that braces stand for, in their order, as the shell has them."""
    parts = _BRACES.split(pattern)
    number = math.prod(map(_count, parts[1::2]))
    if number > _MOST:
        raise UserError(
            f"{printable(pattern)} stands for {number:,} files; expected at most {_MOST:,}. Name "
            "those that there are, or a pattern such as train-*.tar"
        )
    choices = [[part] for part in parts]
    for place in range(1, len(parts), 2):
        choices[place] = _alternatives(parts[place])
    return ["".join(choice) for choice in itertools.product(*choices)]


def _count(inside: str) -> int:
    """How many alternatives there are in braces."""
    if not (found := _RANGE.fullmatch(inside)):
        return inside.count(",") + 1
    return abs(int(found[1]) - int(found[2])) + 1


def _alternatives(inside: str) -> list[str]:
    if not (found := _RANGE.fullmatch(inside)):
        return inside.split(",") if "," in inside else [f"{{{inside}}}"]
    first, last = int(found[1]), int(found[2])
    padded = found[1].startswith("0") or found[2].startswith("0")
    width = max(map(len, found.groups())) if padded else 0
    step = 1 if first <= last else -1
    return [f"{number:0{width}}" for number in range(first, last + step, step)]


def _matching(files: Storage, pattern: str) -> list[str]:
    return files.matching(pattern) if re.search(r"[*?\[]", pattern) else [pattern]
