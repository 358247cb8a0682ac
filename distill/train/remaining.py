"""How long a run has to go, by what it took lately."""

from collections import deque
from collections.abc import Callable, Mapping

# Lines of metrics that the speed of steps is the mean over.
_LINES = 10


class Remaining:
    """Seconds to the end of a run: its steps, and what it pauses for between them.

    Steps are taken to go on as fast as over the last lines of metrics, waits for data included, of
    this start of the run alone: it may go on elsewhere than it began. Each evaluation is taken to
    last as long as it did, times how often it is still due; likewise saving. Of the last two times
    the shorter counts, as the first of a start compiles as well.

    Args:
      total: steps of the run.
      to_come: by a pause's name, how often it is due at a step or later.
      took: seconds of each pause in an earlier start, by name.
    """

    def __init__(
        self,
        total: int,
        to_come: Mapping[str, Callable[[int], int]],
        took: Mapping[str, float] | None = None,
    ):
        self._total, self._to_come = total, to_come
        self._lines: deque[tuple[int, float]] = deque(maxlen=_LINES + 1)
        self._took = {
            name: deque([(took or {})[name]] if name in (took or {}) else [], maxlen=2)
            for name in to_come
        }

    def stepped(self, step: int, training_seconds: float) -> None:
        """Takes up that `step` is done, after so many seconds of training in all."""
        self._lines.append((step, training_seconds))

    def paused(self, name: str, seconds: float) -> None:
        """Takes up how long a pause has been."""
        self._took[name].append(seconds)

    @property
    def took(self) -> dict[str, float]:
        """Seconds of each pause that has been, by name; for the next start of the run."""
        return {name: min(times) for name, times in self._took.items() if times}

    def seconds(self, step: int) -> float:
        """From `step`, after which nothing was paused for yet; 0 while no step was timed."""
        (first, began), (last, ended) = self._lines[0], self._lines[-1]
        per_step = (ended - began) / (last - first) if last > first else 0.0
        pauses = sum(self._to_come[name](step) * each for name, each in self.took.items())
        return per_step * (self._total - step) + pauses


def times_due(every: int, total: int) -> Callable[[int], int]:
    """How often what is due every so many steps, and after the last, is due at a step or later."""
    return lambda step: (total - 1) // every - (max(step, 1) - 1) // every + 1
