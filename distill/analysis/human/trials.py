"""Trials: who was shown which image and answered what, as the toolbox model-vs-human writes them.

A folder of trials has a folder for each set, in it CSV files for each observer:
`colour/colour_subject-01_session_1.csv`, `colour/colour_resnet50_session-1.csv`. What is written
here can be read there, and the other way round.
"""

import csv
import dataclasses
import difflib
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from distill.analysis.human.datasets import CATEGORIES, DATASETS, HUMAN, NO_ANSWER
from distill.analysis.tables import other_separator
from distill.errors import UserError

COLUMNS = (
    *("subj", "session", "trial", "rt"),
    *("object_response", "category", "condition", "imagename"),
)
"""Of a file, in the order in which they are written; read by name, in any case and order."""
NOT_ANSWERED = -1
"""The code of an answer that was not given."""

_ANSWERS = {name: code for code, name in enumerate(CATEGORIES)} | {NO_ANSWER: NOT_ANSWERED}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trials:
    """N trials of an observer with a set, as one file holds them."""

    dataset: str
    """One of `DATASETS`."""
    observer: str
    sessions: np.ndarray
    """int64 [N], mostly 1."""
    numbers: np.ndarray
    """int64 [N], of the trials in their session, from 1."""
    seconds: np.ndarray
    """float64 [N], how long the answer took; NaN where nothing is known."""
    answers: np.ndarray
    """int8 [N], places in `CATEGORIES`; `NOT_ANSWERED` where there was no answer."""
    categories: np.ndarray
    """int8 [N], what was right."""
    conditions: tuple[str, ...]
    """As they were written; `Dataset.condition` spells them one way."""
    images: tuple[str, ...]
    """Names of files, that may begin with trial and observer; `image_id` leaves them out."""
    source: str = ""
    """Where they were read, for messages."""
    lines: np.ndarray | None = None
    """int64 [N], the lines of `source`, from 1."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def is_human(self) -> bool:
        """Whether the observer is a person."""
        return HUMAN.fullmatch(self.observer) is not None

    def place(self, row: int | None = None) -> str:
        """Where a trial stands, or all of them, for messages."""
        whole = self.source or f"the trials of {self.observer} with {self.dataset}"
        if row is None:
            return whole
        return f"{whole}, {'row' if self.lines is None else 'line'} {self._number(row)}"

    def _number(self, row: int) -> int:
        return row + 1 if self.lines is None else int(self.lines[row])


def find_sets(folder: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """The files of trials in a folder.

    Args:
      folder: with a folder for each set.

    Returns:
      Files by set, and the names of other folders that hold CSV files.

    Raises:
      UserError: if there are none.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; expected one with a folder of CSV files a set")
    found = {
        one.name: files
        for one in sorted(folder.iterdir())
        if one.is_dir() and (files := sorted(one.glob("*.csv")))
    }
    sets = {name: files for name, files in found.items() if name in DATASETS}
    others = [name for name in found if name not in DATASETS]
    if not sets:
        raise UserError(_nothing_found(folder, others))
    return sets, others


def _nothing_found(folder: Path, others: Sequence[str]) -> str:
    layout = f"expected files such as {folder}/edge/edge_resnet50_session-1.csv"
    if folder.name in DATASETS and any(folder.glob("*.csv")):
        return f"{folder} holds trials of one set; give the folder above it, {folder.parent}"
    if others:
        near = difflib.get_close_matches(others[0], DATASETS, 1)
        guess = f"; did you mean {near[0]}?" if near else ""
        return f"{folder / others[0]} has the name of no set: they are {', '.join(DATASETS)}{guess}"
    if (folder / "raw-data").is_dir():
        return f"{folder} holds no trials; give {folder / 'raw-data'}"
    return f"{folder} holds no trials: {layout}"


def read_trials(file: Path) -> Trials:
    """Reads a file of trials; its folder is named after the set.

    Raises:
      UserError: naming file and line, if it is not one observer's trials with one of `DATASETS`.
    """
    if file.parent.name not in DATASETS:
        raise UserError(
            f"{file}: the folder of trials is named after their set, one of {', '.join(DATASETS)}; "
            f"found {file.parent.name!r}"
        )
    rows, lines = _rows(file)
    observer, *rest = zip(*rows, strict=True)
    other = next((row for row, name in enumerate(observer) if name != observer[0]), None)
    if other is not None:
        raise UserError(
            f"{file}, line {lines[other]}: subj is {observer[other]!r}, but {observer[0]!r} in "
            f"line {lines[0]}; expected one observer a file"
        )
    column = functools.partial(_converted, file, lines)
    sessions, numbers, seconds, answers, categories, conditions, images = rest
    return Trials(
        dataset=file.parent.name,
        observer=observer[0],
        sessions=np.array(column("session", sessions, int, "a whole number")),
        numbers=np.array(column("trial", numbers, int, "a whole number")),
        seconds=np.array(column("rt", seconds, float, "seconds or NaN")),
        answers=_codes(column, "object_response", answers, _ANSWERS),
        categories=_codes(column, "category", categories, {c: _ANSWERS[c] for c in CATEGORIES}),
        conditions=conditions,
        images=images,
        source=str(file),
        lines=np.array(lines),
    )


def _rows(file: Path) -> tuple[list[tuple[str, ...]], list[int]]:
    """A file's rows in the order of `COLUMNS`, and the lines on which they end."""
    rows, lines = [], []
    try:
        with file.open(encoding="utf-8-sig", newline="") as content:
            reader = csv.reader(content, strict=True)
            header = [name.strip().lower() for name in next(reader, ())]
            if missing := [name for name in COLUMNS if name not in header]:
                raise UserError(
                    f"{file}, line 1: {', '.join(missing)} missing; expected the columns "
                    f"{','.join(COLUMNS)}{other_separator(header)}"
                )
            places = [header.index(name) for name in COLUMNS]
            for row in reader:
                if len(row) != len(header):
                    if not row:
                        continue
                    raise UserError(
                        f"{file}, line {reader.line_num}: {len(row)} values; expected "
                        f"{len(header)}, as the first line has"
                    )
                rows.append(tuple([row[place] for place in places]))
                lines.append(reader.line_num)
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8: {error}") from error
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num}: {error}") from error
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    if not rows:
        raise UserError(f"{file} holds no trials")
    return rows, lines


def _converted(file, lines, name, texts, convert, expected) -> list:
    try:
        return list(map(convert, texts))
    except (ValueError, KeyError):
        for line, text in zip(lines, texts, strict=True):
            try:
                convert(text)
            except (ValueError, KeyError) as error:
                raise UserError(
                    f"{file}, line {line}: {name} is {text!r}; expected {expected}"
                ) from error
        raise


def _codes(column, name: str, texts: Sequence[str], codes: dict[str, int]) -> np.ndarray:
    expected = f"one of {', '.join(codes)}"
    return np.array(column(name, texts, codes.__getitem__, expected), np.int8)


def write_trials(folder: Path, trials: Iterable[Trials]) -> list[Path]:
    """Writes files of trials, one for each observer, set and session.

    Args:
      folder: in which each set has, or gets, a folder; a file of that name is replaced.
      trials: in any order.

    Returns:
      The files.
    """
    files = []
    for one in trials:
        (folder / one.dataset).mkdir(parents=True, exist_ok=True)
        for session in np.unique(one.sessions):
            file = folder / one.dataset / _file_name(one, session)
            with file.open("w", encoding="utf-8", newline="") as out:
                writer = csv.writer(out, lineterminator="\n")
                writer.writerow(COLUMNS)
                writer.writerows(
                    _written(one, row) for row in np.flatnonzero(one.sessions == session).tolist()
                )
            files.append(file)
    return files


def _file_name(trials: Trials, session: int) -> str:
    # The toolbox takes names apart at "_", so a model's has none; that in the file keeps its own.
    name, between = (
        (trials.observer, "_")
        if trials.is_human
        else (
            trials.observer.replace("_", "-"),
            "-",
        )
    )
    return f"{trials.dataset}_{name}_session{between}{session}.csv"


def _written(trials: Trials, row: int) -> tuple:
    seconds, answer = trials.seconds[row], trials.answers[row]
    return (
        trials.observer,
        trials.sessions[row],
        trials.numbers[row],
        "NaN" if np.isnan(seconds) else f"{seconds:.15g}",
        NO_ANSWER if answer == NOT_ANSWERED else CATEGORIES[answer],
        CATEGORIES[trials.categories[row]],
        trials.conditions[row],
        trials.images[row],
    )
