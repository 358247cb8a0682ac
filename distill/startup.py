"""Where the time goes from a command to the first step of its run."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

OTHER = "other"


class Startup:
    """A stopwatch that counts every moment for one thing, the innermost `during`."""

    def __init__(self):
        self._spent: dict[str, float] = {}
        self._now = OTHER
        self._since: float | None = None

    def begin(self, what: str, ago: float = 0.0) -> None:
        """Counts anew, from `ago` seconds before now, and until something else begins as `what`."""
        self._spent, self._now, self._since = {}, what, time.perf_counter() - ago

    def turn_to(self, what: str) -> None:
        """From now on time is spent on `what`; a stopwatch that stands still begins."""
        now = time.perf_counter()
        if self._since is not None:
            self._spent[self._now] = self._spent.get(self._now, 0.0) + now - self._since
        self._now, self._since = what, now

    @contextlib.contextmanager
    def during(self, what: str) -> Iterator[None]:
        """Time inside is spent on `what`, and after it on what was before; also a decorator."""
        before = self._now if self._since is not None else OTHER
        self.turn_to(what)
        try:
            yield
        finally:
            self.turn_to(before)

    def finish(self) -> dict[str, float]:
        """Seconds by what they were spent on, in the order in which it began; stands still."""
        self.turn_to(OTHER)
        spent = self._spent
        self._spent, self._since = {}, None
        return spent


STARTUP = Startup()
"""Of this process: it begins with it where that is a command's, else with what is told of first."""


def process_seconds() -> float:
    """For how long this process has been there, where the system says so; else 0."""
    # From Linux's proc(5): the 22nd field is the start in ticks since boot. The second, the
    # program's name in parentheses, may hold anything.
    with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return max(time.clock_gettime(time.CLOCK_BOOTTIME) - started, 0.0)
    return 0.0


def told(spent: dict[str, float]) -> str:
    """Such as "9.8 s: import 3.1, data 0.9, compile 4.5", without what took next to no time."""
    parts = [f"{what} {seconds:.1f}" for what, seconds in spent.items() if seconds >= 0.05]
    return f"{sum(spent.values()):.1f} s: {', '.join(parts)}"
