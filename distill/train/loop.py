"""The one training loop, for every pipeline."""

import collections
import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from distill.data import TrainLoader
from distill.errors import RunFailed, UserError
from distill.evaluate import Evaluator
from distill.train.checkpoints import Checkpoints
from distill.train.metrics import MetricsLog
from distill.train.progress import Progress, format_seconds, say
from distill.train.signals import StopRequest
from distill.train.state import TrainState
from distill.train.step import Step

# Steps handed to the device before the host waits: enough to keep it busy, few enough that
# batches do not pile up in its memory.
_IN_FLIGHT = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long to train, and what to do on the way.

    Raises:
      ValueError: unless exactly one duration is given and all counts are positive.
    """

    batch_size: int = 512
    """Global, over all devices."""
    total_steps: int | None = None
    total_epochs: float | None = None
    """Passes over the training images; give this or total_steps."""
    log_every: int = 50
    """Steps between lines of metrics."""
    eval_every: int = 1000
    checkpoint_every: int = 1000
    keep_checkpoints: int = 3

    def __post_init__(self):
        if (self.total_steps is None) == (self.total_epochs is None):
            raise ValueError("give exactly one of total_steps and total_epochs")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and value <= 0:
                raise ValueError(f"{field.name} must be positive, not {value}")

    def steps(self, examples: int) -> int:
        """The run's length in steps on so many training images.

        Raises:
          ValueError: if that is less than one step.
        """
        if self.total_steps is not None:
            return self.total_steps
        steps = math.floor(self.total_epochs * examples / self.batch_size)
        if steps < 1:
            raise ValueError(
                f"total_epochs {self.total_epochs} of {examples} images are less than one batch "
                f"of {self.batch_size}"
            )
        return steps


class NonFinite(RunFailed):
    """The loss or the gradient is infinite or not a number."""


class Stopped(UserError):
    """The run was asked to stop, saved everything and can be resumed."""

    exit_code = 0


@dataclasses.dataclass
class Loop:
    """Runs steps, and logs, evaluates and saves when they are due.

    Metrics of a step are written before a checkpoint of that step is, and lines after the
    checkpoint a run resumes from are dropped: a run that was killed ends with the same
    parameters and the same metrics as one that was not.
    """

    name: str
    config: TrainConfig
    total_steps: int
    step: Step
    loader: TrainLoader
    evaluators: Sequence[Evaluator]
    checkpoints: Checkpoints
    metrics: MetricsLog

    def run(self, state: TrainState, frozen: Any = None) -> tuple[TrainState, float]:
        """Trains to the end; returns the last state and the mean images per second.

        Raises:
          NonFinite: at a non-finite loss or gradient; the last good checkpoint stays the newest.
          Stopped: after SIGTERM or SIGINT, once the state is saved.
          RunFailed: if the data is too corrupt to go on.
        """
        start = int(state.step)
        if start >= self.total_steps:
            return state, 0.0
        batch = next(self.loader)
        step = self._compile(state, frozen, batch)
        progress = Progress(self.name, self.total_steps, start)
        clock = _Clock(self.loader)
        unchecked: list[tuple[int, Any]] = []
        in_flight = collections.deque()

        with StopRequest() as stop:
            for number in range(start + 1, self.total_steps + 1):
                state, metrics = step(state, frozen, batch)
                unchecked.append((number, metrics))
                in_flight.append(metrics["loss"])
                if len(in_flight) > _IN_FLIGHT:
                    in_flight.popleft().block_until_ready()

                last = number == self.total_steps
                stopping = stop.name is not None and not last
                log = last or number == 1 or number % self.config.log_every == 0
                evaluate = last or number % self.config.eval_every == 0
                save = last or stopping or number % self.config.checkpoint_every == 0

                if log or evaluate or save:
                    values = self._check(unchecked)
                    clock.steps(number - start)
                row = {}
                if log:
                    rate, wait = clock.window(self.config.batch_size)
                    row |= {f"train/{k}": v for k, v in values.items()}
                    row |= {"train/images_per_second": rate, "train/data_wait": wait}
                    progress.show(number, values["loss"], rate, wait)
                with clock.paused():
                    if evaluate:
                        for evaluator in self.evaluators:
                            row |= evaluator(state.params, frozen)
                    if row:
                        self.metrics.write(number, row)
                    if save:
                        self.metrics.flush()
                        self.checkpoints.save(state, self.loader.state())
                if stopping:
                    self.checkpoints.wait()
                    raise Stopped(
                        f"stopped by {stop.name} after step {number} of {self.total_steps}; "
                        "everything is saved. Run the same command to continue"
                    )
                if not last:
                    batch = next(self.loader)
        self.checkpoints.wait()
        return state, clock.mean_rate(self.config.batch_size)

    def _compile(self, state: TrainState, frozen: Any, batch: Any) -> Step:
        """Compiles ahead of the first step, so that no step's time hides the compiler's."""
        began = time.perf_counter()
        compiled = self.step.lower(state, frozen, batch).compile()
        say(f"{self.name}: compiled in {format_seconds(time.perf_counter() - began)}")
        return compiled

    def _check(self, unchecked: list[tuple[int, Any]]) -> dict[str, float]:
        """Fetches what has accumulated, empties it, and returns the last step's metrics."""
        fetched = [(number, jax.device_get(metrics)) for number, metrics in unchecked]
        unchecked.clear()
        for number, metrics in fetched:
            for name in ("loss", "grad_norm"):
                if not np.isfinite(metrics[name]):
                    raise NonFinite(self._explain(number, name, metrics[name]))
        return {name: float(value) for name, value in fetched[-1][1].items()}

    def _explain(self, number: int, name: str, value: float) -> str:
        saved = self.checkpoints.latest_step
        kept = (
            "nothing was saved yet" if saved is None else f"the checkpoint of step {saved} stands"
        )
        return (
            f"{name} is {value} at step {number}; {kept}. A lower config.optimizer.learning_rate, "
            "a longer warmup or a smaller clip_norm usually helps"
        )


class _Clock:
    """Training time, without evaluation and checkpoints, and the time spent waiting for data."""

    def __init__(self, loader: TrainLoader):
        self._loader = loader
        self._done = self._marked_steps = 0
        self._elapsed = self._marked_elapsed = 0.0
        self._marked_wait = loader.wait_seconds
        self._since = time.perf_counter()

    def steps(self, done: int) -> None:
        """Notes that `done` steps are complete."""
        self._done = done
        self._advance()

    def window(self, batch_size: int) -> tuple[float, float]:
        """Images per second and the share of waiting since the last call."""
        elapsed = max(self._elapsed - self._marked_elapsed, 1e-9)
        rate = (self._done - self._marked_steps) * batch_size / elapsed
        wait = (self._loader.wait_seconds - self._marked_wait) / elapsed
        self._marked_steps, self._marked_elapsed = self._done, self._elapsed
        self._marked_wait = self._loader.wait_seconds
        return rate, min(wait, 1.0)

    def mean_rate(self, batch_size: int) -> float:
        """Images per second over everything."""
        return self._done * batch_size / max(self._elapsed, 1e-9)

    def paused(self) -> "_Clock":
        """A context whose time does not count."""
        return self

    def __enter__(self) -> None:
        self._advance()

    def __exit__(self, *_: object) -> None:
        self._since = time.perf_counter()

    def _advance(self) -> None:
        now = time.perf_counter()
        self._elapsed += now - self._since
        self._since = now
