"""Stopping a run politely."""

import signal
from types import FrameType


class StopRequest:
    """While entered, SIGTERM and SIGINT ask the loop to save and stop instead of killing it.

    A second signal acts as if nobody listened.
    """

    _SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self):
        self.name: str | None = None
        """The signal that came, if one did."""
        self._previous = {}

    def __enter__(self) -> "StopRequest":
        self._previous = {number: signal.signal(number, self._note) for number in self._SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.name = signal.Signals(number).name
        self.__exit__()
