"""How long a run has taken, over all its resumptions."""

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Training time, without compiling, evaluation and checkpoints; and all time.

    Args:
      batch_size: images per step.
      training_seconds: training time spent before, as a checkpoint holds it.
      seconds: all time spent before.
    """

    def __init__(self, batch_size: int, training_seconds: float = 0.0, seconds: float = 0.0):
        self._batch_size = batch_size
        self.training_seconds = training_seconds
        self._began = time.perf_counter() - seconds
        self._since = time.perf_counter()
        self._window_steps = 0
        self._window_start = training_seconds
        self._window_wait = 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the run's first start, without the time it did not run."""
        return time.perf_counter() - self._began

    def start(self, step: int, wait_seconds: float) -> None:
        """Training goes on after `step`; the data has kept it waiting for `wait_seconds`."""
        self._window_steps, self._window_wait = step, wait_seconds
        self._since = time.perf_counter()

    def advance(self) -> None:
        """Counts the time until now as training."""
        now = time.perf_counter()
        self.training_seconds += now - self._since
        self._since = now

    def window(self, step: int, wait_seconds: float) -> dict[str, float]:
        """Images per second and the share of time spent waiting for data since the last call.

        Args:
          step: steps done.
          wait_seconds: spent waiting for data in all.
        """
        elapsed = max(self.training_seconds - self._window_start, 1e-9)
        images = (step - self._window_steps) * self._batch_size
        waited = wait_seconds - self._window_wait
        self._window_steps, self._window_start = step, self.training_seconds
        self._window_wait = wait_seconds
        return {
            "train/images_per_second": images / elapsed,
            "train/data_wait": min(waited / elapsed, 1.0),
        }

    def mean_rate(self, steps: int) -> float:
        """Images per second over all steps of the run."""
        return steps * self._batch_size / max(self.training_seconds, 1e-9)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent inside is no training."""
        yield
        self._since = time.perf_counter()
