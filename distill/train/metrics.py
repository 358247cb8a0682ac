"""Metrics to `metrics.jsonl` and to TensorBoard's event files."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

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
        # TensorBoard takes half a second to import, which whoever trains nothing need not wait for.
        from distill.train.event_file import EventFile

        self._events = EventFile(workdir)

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
    """The lines of `metrics.jsonl`; a last line cut off by a kill is left out."""
    file = workdir / FILE
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def series(rows: Sequence[Mapping[str, float]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of one metric."""
    pairs = [(row["step"], row[name]) for row in rows if name in row]
    steps, values = zip(*pairs, strict=True) if pairs else ((), ())
    return np.asarray(steps), np.asarray(values)


def _truncate(path: Path, resume_step: int) -> None:
    kept = [row for row in read(path.parent) if row["step"] <= resume_step]
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    temporary.replace(path)
