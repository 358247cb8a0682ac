"""CelebA's lists, as published (texts) and as they are often copied (CSV with a header).

Liu et al., "Deep learning face attributes in the wild", ICCV 2015.
"""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from distill.analysis.tables import Table, check_header, read_csv, table_of_rows
from distill.errors import UserError

NAME = "image_id"
PARTITION = "partition"
SPLITS = {"0": "train", "1": "validation", "2": "test"}

_CODES = {"1": 1, "-1": -1}


def read_attributes(path: Path) -> Table:
    """Reads `list_attr_celeba`, `.txt` or `.csv`.

    The text has the number of images on its first line, the attributes' names on its second, and
    then an image a line, any run of spaces between values: 1 for yes, −1 for no.

    Returns:
      `image_id` and then each attribute, int8: 1 or −1.

    Raises:
      UserError: that names file and line of what is not so.
    """
    if path.suffix != ".csv":
        return _read_text_attributes(path)
    table = read_csv(path)
    table.column(NAME)
    columns = {
        name: np.where(table.binary(name), 1, -1).astype(np.int8)
        for name in table.columns
        if name != NAME
    }
    return dataclasses.replace(table, columns={NAME: table.texts(NAME), **columns})


def read_partition(path: Path) -> Table:
    """Reads `list_eval_partition`, `.txt` or `.csv`: of each image 0, 1 or 2.

    Returns:
      `image_id` and `partition`: "train", "validation" or "test".

    Raises:
      UserError: that names file and line of what is not so.
    """
    table = read_csv(path) if path.suffix == ".csv" else _read_text_partition(path)
    names, numbers = table.texts(NAME), table.texts(PARTITION)
    wrong = np.flatnonzero(~np.isin(numbers, list(SPLITS)))
    if wrong.size:
        raise UserError(
            f"{path}, line {table.lines[wrong[0]]}: the partition is "
            f"{str(numbers[wrong[0]])!r}; expected 0 (train), 1 (validation) or 2 (test)"
        )
    splits = np.array([SPLITS[one] for one in numbers.tolist()])
    return dataclasses.replace(table, columns={NAME: names, PARTITION: splits})


def _read_text_attributes(path: Path) -> Table:
    words = _words(path)
    (_, first), (second, attributes) = next(words, (1, [])), next(words, (2, []))
    if len(first) != 1 or not re.fullmatch(r"\d{1,18}", first[0]) or not attributes:
        raise UserError(
            f"{path}, line 1: expected the number of images alone, the attributes' names on the "
            "next line, and then an image a line"
        )
    check_header(path, (NAME, *attributes), second)
    names, lines, values = [], [], bytearray()
    for line, (name, *texts) in words:
        if len(texts) != len(attributes):
            raise UserError(
                f"{path}, line {line}: {len(texts)} values; expected {len(attributes)}, one of "
                "each attribute on line 2"
            )
        if wrong := [text for text in texts if text not in _CODES]:
            raise UserError(f"{path}, line {line}: the value {wrong[0]!r}; expected 1 or -1")
        names.append(name)
        lines.append(line)
        values += bytes(_CODES[text] & 0xFF for text in texts)
    if len(names) != int(first[0]):
        raise UserError(
            f"{path}, line 1: {int(first[0]):,} images are announced, {len(names):,} follow"
        )
    columns = np.frombuffer(values, np.int8).reshape(len(names), -1).T
    return Table(
        source=str(path),
        columns={NAME: np.array(names), **dict(zip(attributes, columns, strict=True))},
        lines=np.array(lines, np.int64),
    )


def _read_text_partition(path: Path) -> Table:
    found = list(_words(path))
    # It has no header.
    lines = [0, *(line for line, _ in found)]
    return table_of_rows(path, (NAME, PARTITION), [words for _, words in found], lines)


def _words(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The words of each line that has any, after its number."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for line, text in enumerate(file, 1):
                if words := text.split():
                    yield line, words
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
