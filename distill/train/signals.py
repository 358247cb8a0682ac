"""Stopping a run politely."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from distill.parallel import distributed
from distill.terminal import CLEAR, TERMINAL

_ENDING = (signal.SIGTERM, signal.SIGHUP)
_AGAIN_SECONDS = 0.05


class Terminated(BaseException):
    """A signal has come where nothing saves first; like KeyboardInterrupt, no `Exception`."""

    def __init__(self, number: int = signal.SIGTERM):
        super().__init__()
        self.number = number
        self.name = signal.Signals(number).name
        self.exit_code = 128 + number


@contextlib.contextmanager
def orderly_end() -> Iterator[None]:
    """While entered, SIGTERM and SIGHUP raise `Terminated`: what was begun is closed or removed.

    A process that the signal ends at once leaves temporary files, worker processes and their
    semaphores behind. A second signal does that. SIGHUP stays ignored where it is, as under nohup.
    """

    def end(number: int, frame: FrameType | None) -> NoReturn:
        del frame
        signal.signal(number, signal.SIG_DFL)
        raise Terminated(number)

    def dropped(raised: "sys.UnraisableHookArgs") -> None:
        error = raised.exc_value
        if isinstance(error, Terminated):
            signal.signal(error.number, end)
        elif not isinstance(error, KeyboardInterrupt):
            hook(raised)
            return
        number = error.number if isinstance(error, Terminated) else signal.SIGINT
        again = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()

    previous = {number: signal.signal(number, end) for number in heeded(_ENDING)}
    # Python drops what is raised while it deletes an object: the signal is sent once more.
    hook, sys.unraisablehook = sys.unraisablehook, dropped
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def ended_at_once() -> Iterator[None]:
    """While entered, Ctrl-C, SIGTERM and SIGHUP end the process where it stands.

    For a library that computes for minutes, of which Python would hear when it is done, where there
    is nothing to save or to remove.
    """
    previous = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [n for n in (signal.SIGINT, *_ENDING) if signal.getsignal(n) != signal.SIG_IGN]
        previous = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def heeded(numbers: tuple[int, ...]) -> tuple[int, ...]:
    """Those signals that whoever started this process does not want to be ignored."""
    hung_up = signal.getsignal(signal.SIGHUP)
    return tuple(one for one in numbers if one != signal.SIGHUP or hung_up != signal.SIG_IGN)


class StopRequest:
    """While entered, SIGTERM, SIGHUP and SIGINT ask the loop to save and stop.

    Schedulers send signals twice, and people press Ctrl-C again: a second one only says what is
    being waited for. Ctrl-C for a third time ends the process at once.

    Where several processes take part, a signal to one of them stops all, after the same step.

    Args:
      stands: says what is saved.
    """

    def __init__(self, stands: Callable[[], str] = lambda: "what is saved stands"):
        self._stands = stands
        self._name: str | None = None
        self._interrupts = 0
        self._previous = {}

    def __enter__(self) -> "StopRequest":
        # JAX listens to SIGTERM itself where there are several processes, and tells the others.
        several = distributed.several()
        wanted = (signal.SIGINT, signal.SIGHUP) if several else (signal.SIGINT, *_ENDING)
        handler = self._pass_on if several else self._note
        self._previous = {number: signal.signal(number, handler) for number in heeded(wanted)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def after(self, step: int) -> str | None:
        """The signal because of which the run stops after `step`; to be asked after every step."""
        if distributed.several():
            # One that was sent a signal goes on, too, until the others know.
            agreed = distributed.stop_agreed(step)
            return (self._name or signal.SIGTERM.name) if agreed else None
        return self._name

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._interrupts += number == signal.SIGINT
        if self._name is None:
            self._name = signal.Signals(number).name
            if number == signal.SIGINT:
                _tell("stopping after this step, once it is saved")
        elif number == signal.SIGINT and self._interrupts > 2:
            _tell(f"ended at once; {self._stands()}")
            os._exit(128 + signal.SIGINT)
        elif number == signal.SIGINT and self._interrupts == 2:
            _tell(f"still saving; Ctrl-C once more ends at once, and {self._stands()}")

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if self._name is None:
            os.kill(os.getpid(), signal.SIGTERM)
        self._note(number, frame)


def _tell(message: str) -> None:
    # What a signal interrupts may be printing, and may hold the terminal's lock.
    before = CLEAR if TERMINAL.can_erase else "\n"
    with contextlib.suppress(OSError):
        os.write(2, f"{before}{message}\n".encode())
