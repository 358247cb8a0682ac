"""A run's metrics: to `metrics.jsonl`, and to whatever else the run logs to."""

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distill.errors import UserError
from distill.parallel import distributed
from distill.train.loggers.background import one_line
from distill.train.loggers.jsonl import FILE, JsonLines, read
from distill.train.loggers.logger import LoggedRun, Logger, as_typed, known_loggers

__all__ = ["FILE", "MetricsLog", "NoLog", "open_log", "read", "series"]

_log = logging.getLogger(__name__)


class MetricsLog:
    """One run's metrics: a JSON object with key `step` per line, and other loggers.

    Where another logger fails, that is said once, and it gets nothing more. One that cannot even be
    opened ends a run that begins, and not one that goes on.

    Args:
      workdir: of the run.
      resume_step: lines of later steps, which the run is about to do again, are dropped; -1 begins
        anew.
      loggers: by name, as `config.train.loggers`.
      config: of the run, as JSON can hold it.

    Raises:
      UserError: if a logger cannot be opened.
    """

    def __init__(
        self,
        workdir: Path,
        resume_step: int,
        loggers: Sequence[str] = ("tensorboard",),
        config: Mapping[str, Any] | None = None,
    ):
        self._lines = JsonLines(workdir, resume_step)
        run = LoggedRun(workdir, config or {}, resume_step, self._lines.logged_step)
        self._others: dict[str, Logger] = {}
        # Lines are written in any case.
        for name in dict.fromkeys(loggers):
            if name == "jsonl":
                continue
            try:
                self._others[name] = known_loggers()[name].open(run)
            except Exception as error:
                told = one_line(error)
                if resume_step < 0:
                    self.close()
                    others = tuple(one for one in loggers if one != name)
                    raise UserError(
                        f"cannot log to {name}: {told}\nMend that, or leave it out: "
                        f"{as_typed(others)}"
                    ) from error
                _log.warning("%s gets nothing of this start of the run: %s", name, told)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends the values of one step."""
        values = {name: float(value) for name, value in values.items()}
        self._lines.write(step, values)
        self._tell(lambda one: one.write(step, values))

    def conclude(self, summary: Mapping[str, Any]) -> None:
        """Hands on the final figures of the run."""
        self._tell(lambda one: one.conclude(summary))

    def _tell(self, what: Callable[[Logger], None]) -> None:
        for name, one in [*self._others.items()]:
            try:
                what(one)
            except Exception as error:  # noqa: BLE001 - whatever a service raises
                _log.warning("%s gets nothing more of this run: %s", name, one_line(error))
                del self._others[name]

    def flush(self) -> None:
        """Returns when lines survive the machine; a checkpoint counts on it."""
        self._lines.flush()

    def close(self) -> None:
        """Flushes and closes all."""
        try:
            self._lines.close()
        finally:
            self._tell(lambda one: one.close())


class NoLog:
    """What processes other than the primary write: nothing."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Leaves it to the primary."""

    def conclude(self, summary: Mapping[str, Any]) -> None:
        """Leaves it to the primary."""

    def flush(self) -> None:
        """Has nothing to flush."""

    def close(self) -> None:
        """Has nothing to close."""


def open_log(
    workdir: Path,
    done: int,
    stack: contextlib.ExitStack,
    loggers: Sequence[str],
    config: Mapping[str, Any],
) -> MetricsLog | NoLog:
    """The metrics of a run after so many steps, closed with the stack; see `MetricsLog`.

    Raises:
      UserError: if a logger cannot be opened.
    """
    if not distributed.is_primary():
        return NoLog()
    log = MetricsLog(workdir, done or -1, loggers, config)
    stack.callback(log.close)
    return log


def series(rows: Sequence[Mapping[str, float]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of one metric."""
    pairs = [(row["step"], row[name]) for row in rows if name in row]
    steps, values = zip(*pairs, strict=True) if pairs else ((), ())
    return np.asarray(steps), np.asarray(values)
