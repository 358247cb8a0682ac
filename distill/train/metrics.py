"""Metrics to `metrics.jsonl` and to TensorBoard's event files."""

import contextlib
import functools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import logging

from distill.json_files import append, damaged_line, read_json_lines, replace_file
from distill.unwritten import naming

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
        self._file = self._path.open("r+b", buffering=0)
        self._end = self._file.seek(0, os.SEEK_END)
        self._workdir = workdir
        self._events_written = True

    @functools.cached_property
    def _events(self) -> "EventFile":
        # TensorBoard takes half a second to import, for which no first step need wait.
        from distill.train.event_file import EventFile

        return EventFile(self._workdir)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends the values of one step."""
        values = {name: float(value) for name, value in values.items()}
        line = (json.dumps({"step": step, **values}) + "\n").encode()
        with naming(self._path):
            append(self._file, line, self._end)
        self._end += len(line)
        if self._events_written:
            self._write_events(step, values)

    def _write_events(self, step: int, values: Mapping[str, float]) -> None:
        """Writes TensorBoard's events as well, as long as they can be written.

        They hold nothing that `metrics.jsonl` does not: no run ends because of them.
        """
        try:
            self._events.write(step, values)
        except OSError as error:
            self._events_written = False
            logging.warning(
                "TensorBoard's events cannot be written to %s: %s; they end at this step, and "
                "%s goes on",
                self._workdir,
                error.strerror,
                FILE,
            )

    def flush(self) -> None:
        """Returns when what was written survives the machine; a checkpoint counts on it."""
        with naming(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flushes and closes both."""
        try:
            self.flush()
        finally:
            self._file.close()
            if "_events" in vars(self):
                # What cannot be written was told of.
                with contextlib.suppress(OSError):
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
