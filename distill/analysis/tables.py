"""Tables by anybody: columns by name, each row known by the line of the file that it stands on."""

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from distill.analysis.prediction_files import SUFFIXES, read_predictions
from distill.analysis.predictions import Predictions
from distill.errors import UserError, did_you_mean

_BINARY = {"true": 1.0, "false": 0.0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Columns of N rows."""

    source: str
    """What holds them, for messages."""
    columns: Mapping[str, np.ndarray]
    """[N] each, by name: texts, numbers or bools."""
    lines: np.ndarray
    """int64 [N], where in the source a row stands, counted from 1."""
    elsewhere: Mapping[str, tuple[str, np.ndarray]] = dataclasses.field(default_factory=dict)
    """Of columns that another table brought, by name: its source, and its lines [N]."""

    def __len__(self) -> int:
        return len(self.lines)

    def column(self, name: str) -> np.ndarray:
        """The column of a name.

        Raises:
          UserError: if there is none.
        """
        if name not in self.columns:
            raise UserError(
                f"{self.source}: no column {name!r}{did_you_mean(name, self.columns)}; expected "
                f"one of {', '.join(map(repr, self.columns))}{other_separator([*self.columns])}"
            )
        return self.columns[name]

    def texts(self, name: str) -> np.ndarray:
        """A column of texts, str [N], without spaces around them.

        Raises:
          UserError: if there is none, or a cell is empty or NaN, which stands for none.
        """
        column = self.column(name)
        texts = np.strings.strip(column.astype(str))
        # What is not itself is NaN.
        empty = np.flatnonzero((texts == "") | (column != column))
        if empty.size:
            raise self._error(empty[0], name, f"{name} is empty; expected a text")
        return texts

    def numbers(self, name: str, low: float = -np.inf, high: float = np.inf) -> np.ndarray:
        """A column of numbers, float64 [N].

        Args:
          name: of the column.
          low: the least that they may be.
          high: the greatest.

        Raises:
          UserError: if there is none, or a cell holds anything else, such as NaN.
        """
        column = self.column(name)
        try:
            numbers = column.astype(np.float64)
        except ValueError:
            numbers = np.array([_number(text) for text in column.tolist()])
        wrong = np.flatnonzero(~(np.isfinite(numbers) & (numbers >= low) & (numbers <= high)))
        if wrong.size:
            expected = "a number"
            if np.isfinite([low, high]).all():
                expected += f" from {low:g} to {high:g}"
            text = str(column[wrong[0]])
            raise self._error(wrong[0], name, f"{name} is {text!r}; expected {expected}")
        return numbers

    def binary(self, name: str) -> np.ndarray:
        """A column of yes and no, bool [N]: 1 and 0, 1 and −1, or true and false.

        Raises:
          UserError: if there is none, or a cell holds anything else.
        """
        cells = self.column(name)
        texts, places = np.unique(cells.astype(str), return_inverse=True)
        codes = np.array([_binary(text) for text in texts.tolist()])[places]
        wrong = np.flatnonzero(~np.isin(codes, (1, 0, -1)))
        if wrong.size:
            raise self._error(
                wrong[0],
                name,
                f"{name} is {str(cells[wrong[0]])!r}; expected 1 or 0, 1 or -1, true or false",
            )
        if (codes == 0).any() and (codes == -1).any():
            first = np.flatnonzero(codes == -1)[0]
            raise self._error(
                first, name, f"{name} is -1 here and 0 elsewhere; expected one of them"
            )
        return codes == 1

    def where(self, chosen: np.ndarray) -> Self:
        """Some of the rows: bool [N], or their numbers."""
        columns = {name: column[chosen] for name, column in self.columns.items()}
        elsewhere = {
            name: (source, lines[chosen]) for name, (source, lines) in self.elsewhere.items()
        }
        return dataclasses.replace(
            self, columns=columns, lines=self.lines[chosen], elsewhere=elsewhere
        )

    def joined(self, other: "Table", names: str = "name") -> Self:
        """This table with what another one says of its images.

        A name with a path, such as `img_align_celeba/000001.jpg`, is also known by its last part.
        Rows of the other table that nothing asks for are left out.

        Args:
          other: its first column holds the images' names, the others are added.
          names: the column of this table that holds the images' names.

        Raises:
          UserError: if an image is missing there or is there twice, or both have a column.
        """
        other_names, *others = other.columns
        both = [name for name in others if name in self.columns]
        if both:
            raise UserError(f"the column {both[0]!r} is in {self.source} and in {other.source}")
        rows: dict[str, int] = {}
        for row, text in enumerate(other.texts(other_names).tolist()):
            first = rows.setdefault(text, row)
            if first != row:
                raise other._error(
                    row, other_names, f"{text} was on line {other.lines[first]} already"
                )
        mine = self.texts(names).tolist()
        places = [rows.get(text, rows.get(text.rpartition("/")[2], -1)) for text in mine]
        missing = [text for text, place in zip(mine, places, strict=True) if place < 0]
        if missing:
            raise UserError(
                f"{other.source} lacks {len(missing):,} of {len(self):,} images of {self.source}, "
                f"the first {missing[0]!r}; its own are such as {next(iter(rows), 'none')!r}"
            )
        chosen = np.array(places, np.int64)
        added = {name: other.columns[name][chosen] for name in others}
        origin = dict.fromkeys(others, (other.source, other.lines[chosen]))
        return dataclasses.replace(
            self, columns={**self.columns, **added}, elsewhere={**self.elsewhere, **origin}
        )

    def of_split(self, column: str, split: str, flag: str) -> Self:
        """The rows that have a text in a column.

        Args:
          column: by name.
          split: the text.
          flag: that says it, for messages.

        Raises:
          UserError: if there is no such column, or none has.
        """
        found = self.texts(column)
        if not (found == split).any():
            there = ", ".join(map(repr, sorted(set(found.tolist()))[:5]))
            raise UserError(
                f"{self.source}: no row has {split!r} in the column {column!r}; expected one of "
                f"{there}; say which by {flag}="
            )
        source = f"{self.source} ({split})"
        return dataclasses.replace(self.where(found == split), source=source)

    def _error(self, row: int, column: str, message: str) -> UserError:
        source, lines = self.elsewhere.get(column, (self.source, self.lines))
        return UserError(f"{source}, line {lines[row]}: {message}")


def read_table(path: Path, positive: str | None = None) -> Table:
    """Reads a CSV with a header, or predictions.

    Args:
      path: of the file.
      positive: of predictions, as of `table_of_predictions`.

    Raises:
      UserError: if it cannot be read, or a positive class is named of other than predictions or
        not named of these.
    """
    if path.suffix not in SUFFIXES:
        if positive is not None:
            raise UserError(
                f"--positive is for predictions ({', '.join(SUFFIXES)}); of {path}, name the "
                "column of the score: --score=COLUMN"
            )
        return read_csv(path)
    if positive is None:
        raise UserError(
            f"{path} holds predictions; name the class whose probability is the score: "
            "--positive=CLASS"
        )
    return table_of_predictions(read_predictions(path), positive, str(path))


def read_csv(path: Path) -> Table:
    """Reads a table with commas and a header, UTF-8.

    Raises:
      UserError: if it cannot be read, or a row has not as many cells as the header.
    """
    rows: list[list[str]] = []
    lines: list[int] = []
    # Most cells of a large table are of a few texts, which need not be there more than once.
    known: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for row in reader:
                if row:
                    rows.append([known.setdefault(cell, cell) for cell in row])
                    lines.append(reader.line_num)
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}; expected CSV") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error}; expected CSV") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if not rows:
        raise UserError(f"{path} is empty; expected CSV, a header of columns first")
    return table_of_rows(path, rows[0], rows[1:], lines)


def table_of_rows(
    path: Path, header: Sequence[str], rows: Sequence[Sequence[str]], lines: Sequence[int]
) -> Table:
    """The table that the rows of a file are.

    Args:
      path: of the file.
      header: the columns' names.
      rows: of cells.
      lines: of the header and of each row.

    Raises:
      UserError: if there are no rows, a name is there twice, or a row is not as long as the header.
    """
    check_header(path, header, lines[0])
    if not rows:
        raise UserError(f"{path} holds no rows below its header")
    for row, line in zip(rows, lines[1:], strict=True):
        if len(row) != len(header):
            raise UserError(
                f"{path}, line {line}: {len(row)} values; expected {len(header)}, as the columns "
                f"are {', '.join(map(repr, header))}{other_separator(header)}"
            )
    columns = {
        name: np.array(cells) for name, cells in zip(header, zip(*rows, strict=True), strict=True)
    }
    return Table(source=str(path), columns=columns, lines=np.array(lines[1:], np.int64))


def other_separator(header: Sequence[str]) -> str:
    """The end of a message about the columns of a CSV, where they are separated otherwise."""
    found = [one for one in ";\t|" if len(header) == 1 and one in header[0]]
    return f". Columns seem to be separated by {found[0]!r}; expected commas" if found else ""


def check_header(path: Path, header: Sequence[str], line: int) -> None:
    """Checks that columns have names of their own.

    Raises:
      UserError: if two have one name.
    """
    twice = [name for place, name in enumerate(header) if name in header[:place]]
    if twice:
        raise UserError(f"{path}, line {line}: the column {twice[0]!r} is there twice")


def table_of_predictions(predictions: Predictions, positive: str, source: str) -> Table:
    """Predictions as a table.

    Its columns are `name`, what else is known of each image, `score`, the probability of the
    positive class, and, if every image has a label, `label`: whether it is of the positive class.

    Args:
      predictions: of a model.
      positive: the name of the positive class.
      source: what holds the predictions, for messages.

    Raises:
      UserError: if the model has no class of that name, or several.
    """
    places = [place for place, name in enumerate(predictions.class_names) if name == positive]
    if len(places) != 1:
        raise UserError(
            f"{source}: {len(places)} of {len(predictions.class_names)} classes are called "
            f"{positive!r}{did_you_mean(positive, predictions.class_names)}; expected one"
        )
    columns = {"name": predictions.names, **predictions.columns}
    if (predictions.labels >= 0).all():
        columns["label"] = predictions.labels == places[0]
    columns["score"] = predictions.probabilities()[:, places[0]]
    return Table(source=source, columns=columns, lines=np.arange(1, len(predictions) + 1))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _binary(text: str) -> float:
    code = _BINARY.get(text.strip().lower())
    return _number(text) if code is None else code
