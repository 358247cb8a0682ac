"""Stopping a run politely."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from distill.parallel import distributed


class Terminated(BaseException):
    """SIGTERM has come where nothing saves first; like KeyboardInterrupt, no `Exception`."""

    exit_code = 128 + signal.SIGTERM


@contextlib.contextmanager
def orderly_end() -> Iterator[None]:
    """While entered, SIGTERM raises `Terminated`, so that what was begun is closed or removed.

    A process that the signal ends at once leaves temporary files, worker processes and their
    semaphores behind. A second signal does that.
    """

    def end(number: int, frame: FrameType | None) -> NoReturn:
        del frame
        signal.signal(number, signal.SIG_DFL)
        raise Terminated

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


class StopRequest:
    """While entered, SIGTERM and SIGINT ask the loop to save and stop instead of killing it.

    A second signal acts as if nobody listened.

    Where several processes take part, a signal to one of them stops all, after the same step.
    """

    def __init__(self):
        self._name: str | None = None
        self._previous = {}

    def __enter__(self) -> "StopRequest":
        # JAX listens to SIGTERM itself where there are several processes, and tells the others.
        several = distributed.several()
        handlers = (
            {signal.SIGINT: self._pass_on}
            if several
            else dict.fromkeys((signal.SIGTERM, signal.SIGINT), self._note)
        )
        self._previous = {number: signal.signal(number, f) for number, f in handlers.items()}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def after(self, step: int) -> str | None:
        """The signal because of which the run stops after `step`; to be asked after every step."""
        if distributed.stop_agreed(step):
            return signal.SIGTERM.name
        return self._name

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._name = signal.Signals(number).name
        self.__exit__()

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        os.kill(os.getpid(), signal.SIGTERM)
        self.__exit__()
