"""metrics.jsonl: the run's own record, which is always written and which resuming counts on."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.json_files import append, damaged_line, read_json_lines, replace_file
from distill.train.loggers.logger import LoggedRun, LoggerKind
from distill.unwritten import naming

FILE = "metrics.jsonl"


class JsonLines:
    """A JSON object with key `step` per line.

    What is written can be read by others at once, and survives the end of this process.

    Args:
      workdir: where it is written.
      resume_step: lines of later steps, which the run is about to do again, are dropped.
    """

    def __init__(self, workdir: Path, resume_step: int):
        self._path = workdir / FILE
        self.logged_step = _last_step(workdir)
        """Of the last line that was there, those that are dropped among them; -1 without any."""
        _truncate(self._path, resume_step)
        self._file = self._path.open("r+b", buffering=0)
        self._end = self._file.seek(0, os.SEEK_END)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends the values of one step."""
        line = (json.dumps({"step": step, **values}) + "\n").encode()
        with naming(self._path):
            append(self._file, line, self._end)
        self._end += len(line)

    def flush(self) -> None:
        """Returns when what was written survives the machine; a checkpoint counts on it."""
        with naming(self._path):
            os.fsync(self._file.fileno())

    def conclude(self, summary: Mapping[str, Any]) -> None:
        """Leaves final figures to summary.json."""

    def close(self) -> None:
        """Flushes and closes."""
        try:
            self.flush()
        finally:
            self._file.close()


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


def _last_step(workdir: Path) -> int:
    try:
        return max((int(row["step"]) for row in read(workdir)), default=-1)
    except UserError:
        # Of a run that begins anew it does not matter; of another one it is said next.
        return -1


def _truncate(path: Path, resume_step: int) -> None:
    # Of a run that begins anew, nothing is kept, whatever it is.
    kept = (
        [row for row in read(path.parent) if row["step"] <= resume_step] if resume_step >= 0 else []
    )
    replace_file(path, "".join(json.dumps(row) + "\n" for row in kept).encode())


def _open(run: LoggedRun) -> JsonLines:
    return JsonLines(run.workdir, run.resume_step)


LOGGERS = (LoggerKind(name="jsonl", open=_open),)
