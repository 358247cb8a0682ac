"""From labels as data says them, numbers or names, to classes."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from distill.data.sources.base import printable
from distill.data.sources.places import read_if_there, storage_of
from distill.errors import UserError
from distill.json_files import parse_json
from distill.paths import text_of

# Of digits; what is longer is a name.
_LONGEST_NUMBER = 100
_BELOW = re.compile(r"-\d+")
# What a list of classes may be called, where a data set lies; the last is what TFDS writes.
LISTS = ("classes.txt", "classes.json", "dataset_info.json", "label.labels.txt")


def label_text(value: Any) -> str | None:
    """A label as text, numbers without leading zeros; None for none.

    Raises:
      UserError: if it is neither a whole number nor a line of text.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise UserError(f"label {value!r} is neither a whole number nor a text")
    text = str(value).strip()
    # Whoever writes −1 for no label means the same as TFDS does.
    if not text or text == "-1":
        return None
    if _BELOW.fullmatch(text):
        raise UserError(
            f"label {text!r} is below 0; expected a class's number from 0, its name, or -1 for none"
        )
    return str(int(text)) if _is_number(text) else unicodedata.normalize("NFC", text_of(text))


def lines_of_text(names: Iterable[Any], where: str) -> tuple[str, ...]:
    """As `checked_names`, of names that may be there twice."""
    try:
        return tuple(unicodedata.normalize("NFC", text_of(str(name))) for name in names)
    except UserError as error:
        raise UserError(f"{where} names a class that cannot be: {error}") from error


def checked_names(names: Iterable[Any], where: str) -> tuple[str, ...]:
    """The names of classes, as a file or a data set gives them: a line of text each, each once.

    Args:
      names: in the order of their numbers.
      where: they are, for errors.

    Raises:
      UserError: naming the first that is not, or that is there twice.
    """
    found = lines_of_text(names, where)
    if twice := [name for name, times in Counter(found).items() if times > 1]:
        raise UserError(f"{where} has the class {twice[0]!r} twice; give each its own name")
    return found


def read_class_names(folder: str) -> tuple[str, ...]:
    """The names of classes in order, from a list in a folder; empty where there is none.

    `classes.txt` has a name in each line, `classes.json` is a list or an object from number to
    name, and `dataset_info.json` is as Hugging Face writes it.

    Raises:
      UserError: if the list cannot be read, is empty or has a name twice.
    """
    for name in LISTS:
        path = os.path.join(folder, name)
        content = read_if_there(path)
        if content is not None and (names := _read(path, content)) is not None:
            if not names:
                raise UserError(f"{path} lists no classes; write their names into it, or delete it")
            return checked_names(names, printable(path))
    return ()


def _read(path: str, encoded: bytes) -> list[str] | None:
    """The names; None of a file that is about something else."""
    if path.endswith(".txt"):
        try:
            # Editors on Windows begin files with a mark.
            lines = re.split(r"\r\n|\r|\n", encoded.decode("utf-8-sig"))
            return [line.strip(" \t") for line in lines if line.strip()]
        except UnicodeDecodeError as error:
            raise UserError(f"{path} cannot be read: {error}") from error
    content = parse_json(encoded, path)
    if os.path.basename(path) == "dataset_info.json":
        try:
            return [str(name) for name in content["features"]["label"]["names"]]
        # Of a data set of another kind, which has no such feature.
        except (KeyError, TypeError):
            return None
    if isinstance(content, dict) and set(content) == {str(n) for n in range(len(content))}:
        content = [content[str(number)] for number in range(len(content))]
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise UserError(f'{path} is no list of classes; expected ["cat", "dog"]')
    return content


def classes_of(
    texts: Sequence[str], names: tuple[str, ...]
) -> tuple[tuple[str, ...], np.ndarray, list[int]]:
    """The classes that labels are of.

    Args:
      texts: each label once, as `label_text` has it.
      names: the classes' names in order, if they are known. Else classes are the labels,
        numbers by their value, names in the order of their characters.

    Returns:
      The classes' names; of each label, its class's number, int32 [labels]; the places of those
      that are no class of these names, whose number is −1.
    """
    if not names:
        numeric = all(map(_is_number, texts))
        names = tuple(sorted(set(texts), key=int if numeric else None))
        number = {name: place for place, name in enumerate(names)}
    else:
        number = {str(place): place for place in range(len(names))}
        # A class that is called 1 is meant by its name.
        number |= {name: place for place, name in enumerate(names)}
    found = np.array([number.get(text, -1) for text in texts], np.int32)
    return names, found, np.flatnonzero(found < 0).tolist()


def unknown_class(text: str, where: str, names: Sequence[str], folder: str) -> UserError:
    """The error for a label that is none of the classes listed in a folder."""
    shown = ", ".join(names[:8]) + (f", … {names[-1]}" if len(names) > 8 else "")
    files = storage_of(folder)
    # Where the folder has no list, what is in it was prepared, with the names of its source.
    lists = next((name for name in LISTS if files.exists(os.path.join(folder, name))), "")
    return UserError(
        f"{where} has the label {text!r}, which is none of the {len(names):,} classes of "
        f"{printable(os.path.join(folder, lists) if lists else folder)} ({shown}), nor one's "
        "number from 0"
    )


def _is_number(text: str) -> bool:
    # Python makes no number of thousands of digits.
    return text.isascii() and text.isdigit() and len(text) < _LONGEST_NUMBER
