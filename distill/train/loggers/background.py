"""Rows sent to a service while the run goes on."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

_log = logging.getLogger(__name__)


class Row(NamedTuple):
    """The metrics of a step."""

    step: int
    values: Mapping[str, float]
    seconds: float
    """Since the epoch, when they were found."""


class Background:
    """Sends rows in a thread, in their order; what could not be sent is sent with the next row.

    Args:
      name: of the service, for the one warning.
      send: sends rows, and raises if it could not; it may be given some of them again.
      patience: seconds that `close` waits.
    """

    def __init__(self, name: str, send: Callable[[Sequence[Row]], None], patience: float = 30.0):
        self._name, self._send, self._patience = name, send, patience
        self._rows: list[Row] = []
        self._changed = threading.Condition()
        self._closing = self._warned = False
        # A service that does not answer does not keep the process from its end.
        self._thread = threading.Thread(target=self._work, name=f"log to {name}", daemon=True)
        self._thread.start()

    def add(self, row: Row) -> None:
        """Takes a row; does not wait."""
        with self._changed:
            self._rows.append(row)
            self._changed.notify()

    def close(self) -> None:
        """Sends what is left, once, and waits for that no longer than `patience`."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(self._patience)
        if self._rows:
            _log.warning(
                "%s has not got the last %d rows; metrics.jsonl has all",
                self._name,
                len(self._rows),
            )

    def _work(self) -> None:
        failed = 0
        while True:
            with self._changed:
                while not self._closing and len(self._rows) <= failed:
                    self._changed.wait()
                rows, last = list(self._rows), self._closing
            failed = 0
            try:
                if rows:
                    self._send(rows)
            except Exception as error:  # noqa: BLE001 - whatever a service raises
                failed = len(rows)
                self._warn(error)
            else:
                with self._changed:
                    del self._rows[: len(rows)]
            if last:
                return

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            _log.warning("%s cannot be reached: %s; the run goes on", self._name, one_line(error))
        self._warned = True


def one_line(error: Exception) -> str:
    """What an error says, in a line."""
    told = " ".join(str(error).split()) or type(error).__name__
    return told if len(told) <= 200 else f"{told[:199]}…"
