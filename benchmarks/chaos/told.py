"""What a campaign says: how far it is, and what came of it."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping

from benchmarks.chaos.campaign import Came
from benchmarks.chaos.fault import CLEAN, OUTCOMES, Fault
from distill.terminal import text_table

HEADER = ("class", "tried", *OUTCOMES, "minutes")


class Progress:
    """Says every few seconds how far a campaign is.

    Args:
      asked: how many trials of each class are to be made.
    """

    def __init__(self, asked: Mapping[Fault, int]):
        self._left = {fault.name: count for fault, count in asked.items()}
        self._seconds: dict[str, list[float]] = {}
        self._last, self._wrong = time.monotonic(), 0

    def came(self, one: Came) -> None:
        """Takes note of a trial, and says so if it went wrong or nothing was said for long."""
        self._left[one.fault] -= 1
        self._seconds.setdefault(one.fault, []).append(one.seconds)
        if one.came != CLEAN:
            self._wrong += 1
            told = one.told.strip().splitlines()[-1:] or [""]
            print(f"{one.name}: {one.came}: {one.tried}: {told[0][:300]}", flush=True)
        if time.monotonic() - self._last < 10:
            return
        self._last = time.monotonic()
        left = ", ".join(f"{count} {name}" for name, count in self._left.items() if count)
        done = sum(map(len, self._seconds.values()))
        print(f"{done} done, {self._wrong} went wrong; left: {left}; ETA {self._eta()}", flush=True)

    def _eta(self) -> str:
        known = [seconds for one in self._seconds.values() for seconds in one]
        mean = sum(known) / len(known)
        seconds = 0.0
        for name, count in self._left.items():
            own = self._seconds.get(name)
            seconds += count * (sum(own) / len(own) if own else mean)
        return f"{seconds / 60:.0f} min of trials"


def rows_of(made: Iterable[Came]) -> list[tuple[str, ...]]:
    """A row for each class: how many trials came to what, and how long they took."""
    counts: Counter[tuple[str, str]] = Counter()
    seconds: dict[str, float] = {}
    for one in made:
        counts[one.fault, one.came] += 1
        seconds[one.fault] = seconds.get(one.fault, 0) + one.seconds
    return [
        (
            name,
            str(sum(counts[name, came] for came in OUTCOMES)),
            *(str(counts[name, came]) for came in OUTCOMES),
            f"{seconds[name] / 60:.1f}",
        )
        for name in sorted(seconds)
    ]


def plain(made: Iterable[Came]) -> str:
    """The table for a terminal."""
    return text_table(HEADER, rows_of(made))


def markdown(made: Iterable[Came]) -> str:
    """The table for a document."""
    rows = [HEADER, ("---", *(["---:"] * (len(HEADER) - 1))), *rows_of(made)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
