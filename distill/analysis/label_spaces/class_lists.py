"""JSON objects that say which classes stand for something: a class, an image, a folder."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.errors import UserError, did_you_mean

ClassLists = dict[str, tuple[str | int, ...]]
"""Names or numbers of classes, by what they stand for."""


def read_class_lists(file: Path) -> ClassLists:
    """Reads a JSON object {something: a class, or a list of classes}.

    Raises:
      UserError: if the file is anything else, naming the line or the entry.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = [key for key, times in Counter(key for key, _ in pairs).items() if times > 1]
        if twice:
            raise UserError(f"{file} says {twice[0]!r} more than once")
        return dict(pairs)

    try:
        # Editors on Windows begin files with a mark.
        content = json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=once)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is no JSON: {error}") from error
    if not isinstance(content, dict) or not content:
        raise UserError(
            f"{file} holds {'nothing' if content == {} else type(content).__name__}; expected a "
            'JSON object such as {"n01440764": ["class", "another"]}'
        )
    return {key: _classes(value, f"{file}, {key!r}") for key, value in content.items()}


def _classes(value: Any, where: str) -> tuple[str | int, ...]:
    found = value if isinstance(value, list) else [value]
    for one in found:
        if not isinstance(one, str | int) or isinstance(one, bool):
            raise UserError(
                f"{where} is {json.dumps(one)}; expected the name or the number of a class, or a "
                "list of them"
            )
    return tuple(found)


def numbers_of(lists: ClassLists, classes: Sequence[str], file: Path) -> dict[str, list[int]]:
    """The numbers, each once and in order, of the classes in each list.

    Args:
      lists: what `file` says.
      classes: the names that numbers count; they need not be distinct.
      file: for errors.

    Raises:
      UserError: naming the entry whose class is not among them, or there twice.
    """
    number = {name: place for place, name in enumerate(classes)}
    times = Counter(classes)

    def find(key: str, one: str | int) -> int:
        if isinstance(one, int):
            if not 0 <= one < len(classes):
                raise UserError(
                    f"{file}, {key!r} is class {one}; expected 0 to {len(classes) - 1:,}"
                )
            return one
        if one not in number:
            raise UserError(
                f"{file}, {key!r} is {one!r}, which is none of {len(classes):,} classes"
                f"{did_you_mean(one, number)}"
            )
        if times[one] > 1:
            raise UserError(
                f"{file}, {key!r} is {one!r}, as {times[one]} classes are called; give the number"
            )
        return number[one]

    return {key: sorted({find(key, one) for one in found}) for key, found in lists.items()}
