"""Metrics to `metrics.jsonl` and to TensorBoard's event files."""

import functools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distill.json_files import damaged_line, read_json_lines, replace_file

if TYPE_CHECKING:
    from distill.train.event_file import EventFile

FILE = "metrics.jsonl"


class MetricsLog:
    """One run's metrics: a JSON object with key `step` per line, and TensorBoard events.

    What is written can be read by others at once, and survives the end of this process.

    Args:
      workdir: where both are written.
      resume_step: lines of later steps, which the run is about to do again, are dropped.
    """

    def __init__(self, workdir: Path, resume_step: int):
        self._path = workdir / FILE
        _truncate(self._path, resume_step)
        self._file = self._path.open("a", encoding="utf-8")
        self._workdir = workdir

    @functools.cached_property
    def _events(self) -> "EventFile":
        # TensorBoard takes half a second to import, for which no first step need wait.
        from distill.train.event_file import EventFile

        return EventFile(self._workdir)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends the values of one step."""
        values = {name: float(value) for name, value in values.items()}
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        self._events.write(step, values)

    def flush(self) -> None:
        """Returns when what was written survives the machine; a checkpoint counts on it."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flushes and closes both."""
        self.flush()
        self._file.close()
        if "_events" in vars(self):
            self._events.close()


class NoLog:
    """What processes other than the primary write: nothing."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Leaves it to the primary."""

    def flush(self) -> None:
        """Has nothing to flush."""

    def close(self) -> None:
        """Has nothing to close."""


def read(workdir: Path) -> list[dict[str, float]]:
    """The lines of `metrics.jsonl`; a last line cut off by a kill is left out.

    Raises:
      UserError: if it cannot be read.
      Damaged: naming the line, if another one holds no figures of a step.
    """
    file = workdir / FILE
    rows = read_json_lines(file) if file.exists() else []
    for number, row in enumerate(rows, 1):
        if not _is_row(row):
            raise damaged_line(file, number, "it holds no step and figures")
    return rows


def _is_row(row: dict) -> bool:
    numbers = all(isinstance(value, int | float) for value in row.values())
    return numbers and isinstance(row.get("step"), int)


def series(rows: Sequence[Mapping[str, float]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of one metric."""
    pairs = [(row["step"], row[name]) for row in rows if name in row]
    steps, values = zip(*pairs, strict=True) if pairs else ((), ())
    return np.asarray(steps), np.asarray(values)


def _truncate(path: Path, resume_step: int) -> None:
    # Of a run that begins anew, nothing is kept, whatever it is.
    kept = (
        [row for row in read(path.parent) if row["step"] <= resume_step] if resume_step >= 0 else []
    )
    replace_file(path, "".join(json.dumps(row) + "\n" for row in kept).encode())
