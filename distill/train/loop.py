"""The one training loop, for every pipeline."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from distill.data import TrainLoader
from distill.errors import RunFailed, UserError
from distill.nn import Params
from distill.parallel import Flight, distributed
from distill.parallel.last_words import newest_in
from distill.parallel.printed import say
from distill.startup import STARTUP, told
from distill.train.best import Best
from distill.train.checkpoints import Checkpoints
from distill.train.clock import Clock
from distill.train.config import Intervals, TrainConfig
from distill.train.metrics import MetricsLog, NoLog
from distill.train.progress import Progress, format_headline, format_scores
from distill.train.remaining import Remaining, times_due
from distill.train.signals import StopRequest
from distill.train.state import TrainState
from distill.train.step import JointStep, States

# What steps pause for, beside evaluations.
_SAVING = "saving"


class NonFinite(RunFailed):
    """The loss or the gradient is infinite or not a number."""


class Stopped(UserError):
    """The run was asked to stop, saved everything and can be resumed."""

    exit_code = 0


class Evaluate(Protocol):
    """Finds metrics, by name, of parameters and what is frozen beside them."""

    @property
    def missing(self) -> frozenset[str]:
        """Metrics of which the last call could say nothing, and which it left out."""
        ...

    def metrics(self, params: Params, frozen: Any) -> frozenset[str] | None:
        """The names of what may be found, of shapes of parameters; None where nothing says them."""
        ...

    def __call__(self, params: Params, frozen: Any) -> dict[str, float]:
        """What is found."""
        ...


class Recurring(NamedTuple):
    """An evaluation and when it is called: every so many steps, and after the last."""

    every: int | None
    """None calls it every train.eval_every."""
    evaluate: Evaluate

    def due(self, number: int, intervals: Intervals) -> bool:
        """Whether it is to be called after step `number`, though it is not the last."""
        return number % (self.every or intervals.evaluate) == 0


@dataclasses.dataclass(frozen=True)
class Track:
    """What is kept of one learner: how it is evaluated, and where that and its state go."""

    evaluations: Sequence[Recurring]
    checkpoints: Checkpoints
    metrics: MetricsLog | NoLog
    best: Best | None = None
    terms: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Weights of the loss's terms, by the name of their metric."""


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
    compile: Callable[[States, Any, Any], JointStep]
    """Compiles the step for states, frozen parameters and batches like these."""
    loader: TrainLoader
    tracks: Mapping[str, Track]
    """By the names of the learners that the step updates."""
    clock: Clock
    save_at: Collection[int] = ()
    """Steps after which to save besides."""
    pauses: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Seconds of what steps pause for, as the last start of the run found them."""
    check_place: Callable[[], object] = lambda: None
    """Raises an error if what is written to is no longer there."""
    first_step_seconds: float | None = None
    """From the command to the first step that this process did; None until then."""

    def __post_init__(self):
        self._left = Remaining(self.total_steps, self._to_come(), self.pauses)
        terms = {name: track.terms for name, track in self.tracks.items()}
        self._progress = Progress(self.name, self.total_steps, self._left.seconds, terms)

    def run(self, states: States, frozen: Any = None) -> States:
        """Trains to the end and returns the last states.

        Raises:
          NonFinite: at a non-finite loss or gradient; the last good checkpoint stays the newest.
          Stopped: after SIGTERM or SIGINT, once the state is saved; after the last step, too, so
            that what would follow on training is left to the next start.
          RunFailed: if the data is too corrupt to go on or cannot be read; where there is one
            process, once the state is saved.
        """
        start = int(next(iter(states.values())).step)
        if start >= self.total_steps:
            return states
        with contextlib.closing(self._progress):
            return self._run(start, states, frozen)

    def _run(self, start: int, states: States, frozen: Any) -> States:
        progress = self._progress
        progress.doing(start, "compiling")
        with STARTUP.during("data"):
            batch = next(self.loader)
        # Compiled ahead of the first step, so that no step's time hides the compiler's.
        step = self.compile(states, frozen, batch)
        self.clock.start(start, self.loader.wait_seconds)
        self._left.stepped(start, self.clock.training_seconds)
        if start == 0 and self.config.evaluate_first:
            with self.clock.paused():
                first = _Due(log=False, evaluate=True, save=False, stop=False)
                self._record(0, first, {}, states, frozen)
        pending = _Pending()

        with StopRequest(self._stands) as request:
            for number in range(start + 1, self.total_steps + 1):
                # Nothing may cross between host and device on the way of a step.
                with jax.transfer_guard("disallow"):
                    states, metrics = step(states, frozen, batch)
                if number == start + 1:
                    self._tell_start(number)
                pending.add(number, metrics)
                progress.tick(number)
                stop = request.after(number)
                due = self._due(number, stop is not None)
                if any(due):
                    rows = self._fetch(pending)
                    self.clock.advance()
                    if due.log:
                        speed = self.clock.window(number, self.loader.wait_seconds)
                        seen = self.loader.images_seen.items()
                        speed |= {f"train/images/{part}": float(count) for part, count in seen}
                        rows = {name: row | speed for name, row in rows.items()}
                        self._left.stepped(number, self.clock.training_seconds)
                        progress.show(number, rows)
                    with self.clock.paused():
                        self._record(number, due, rows, states, frozen)
                if due.stop:
                    self._wait()
                    raise self._stopped(stop, number)
                if number < self.total_steps:
                    batch = self._next_batch(number, due, pending, states)
            self._wait()
            # What came while the last step was evaluated and saved; processes agree on each number.
            if stop := request.after(self.total_steps + 1):
                raise self._stopped(stop, self.total_steps)
        return states

    def _stopped(self, signal: str | None, number: int) -> Stopped:
        return Stopped(
            f"stopped by {signal} after step {number} of {self.total_steps}; everything is saved. "
            "Run the same command to continue"
        )

    def _stands(self) -> str:
        """The newest step of which everything is on disk, in words."""
        steps = [newest_in(track.checkpoints.directory) for track in self.tracks.values()]
        known = [step for step in steps if step is not None]
        return f"step {min(known)} stands" if len(known) == len(steps) else "nothing is saved yet"

    def _next_batch(self, number: int, due: "_Due", pending: "_Pending", states: States) -> Any:
        """The batch after step `number`; if it cannot be read, the step is saved first.

        Where several processes take part, the others are at work: the last checkpoint stands.
        """
        try:
            return next(self.loader)
        except RunFailed as error:
            if distributed.several():
                raise
            if not any(due):
                self._fetch(pending)
                self.clock.advance()
            if not due.save:
                self._save(states)
            self._wait()
            raise type(error)(
                f"{error}\nStep {number} of {self.total_steps} is saved. Run the same command to "
                "continue"
            ) from error

    def _due(self, number: int, stop: bool) -> "_Due":
        last, intervals = number == self.total_steps, self.config.intervals(self.total_steps)
        kept = number in self.save_at
        if self.config.keep_every is not None:
            kept = kept or number % self.config.keep_every == 0
        return _Due(
            log=last or number == 1 or number % intervals.log == 0,
            evaluate=any(
                last or evaluation.due(number, intervals)
                for track in self.tracks.values()
                for evaluation in track.evaluations
            ),
            save=last or stop or kept or number % intervals.save == 0,
            stop=stop,
        )

    def _record(
        self, number: int, due: "_Due", rows: dict[str, dict], states: States, frozen: Any
    ) -> None:
        """Evaluates, writes the step's rows and saves, in this order, as far as due."""
        self.check_place()
        for name, track in self.tracks.items():
            row = rows[name] if due.log else {}
            if due.evaluate:
                row = row | self._evaluate(number, name, states[name], frozen)
            if row:
                track.metrics.write(number, row)
        if due.save:
            self._progress.doing(number, "saving")
            with self._timed(_SAVING):
                self._save(states)

    def _to_come(self) -> dict[str, Callable[[int], int]]:
        """By what steps pause for, how often it is due at a step or later."""
        intervals = self.config.intervals(self.total_steps)
        return {_SAVING: times_due(intervals.save, self.total_steps)} | {
            f"{name}/{place}": times_due(one.every or intervals.evaluate, self.total_steps)
            for name, track in self.tracks.items()
            for place, one in enumerate(track.evaluations)
        }

    @contextlib.contextmanager
    def _timed(self, pause: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._left.paused(pause, time.perf_counter() - began)

    def _save(self, states: States) -> None:
        """Saves every learner's state and the data's position."""
        self.check_place()
        progress = self.position() | {
            "training_seconds": self.clock.training_seconds,
            "seconds": self.clock.seconds,
            "pauses": self._left.took,
        }
        if len(self.tracks) > 1:
            # None begins the next before all have the last one.
            for track in self.tracks.values():
                track.checkpoints.wait()
        for name, track in self.tracks.items():
            # A checkpoint that stands has its metrics and what was best before it on disk.
            track.metrics.flush()
            if track.best:
                track.best.wait()
            track.checkpoints.save(states[name], progress)

    def _evaluate(self, number: int, name: str, state: TrainState, frozen: Any) -> dict[str, float]:
        """What the evaluations that are due find, said and returned."""
        track, scores, complete = self.tracks[name], {}, True
        best, missing = self.config.keep_best, set()
        intervals = self.config.intervals(self.total_steps)
        for place, evaluation in enumerate(track.evaluations):
            if number in (0, self.total_steps) or evaluation.due(number, intervals):
                self._progress.doing(number, "evaluating")
                with self._timed(f"{name}/{place}"):
                    scores |= evaluation.evaluate(state.weights, frozen)
                missing |= evaluation.evaluate.missing
            else:
                complete = False
        if scores:
            whose = f"{self.name} {name}" if len(self.tracks) > 1 else self.name
            at = f"{whose} {number:,}/{self.total_steps:,}"
            detailed = f"{at}  {format_scores(scores)}"
            say(f"{at}  {format_headline(scores, best)}", "bold", detailed=detailed)
        if track.best and best in scores:
            track.best.offer(number, scores[best], state.weights)
        elif track.best and complete and best not in missing:
            raise UserError(
                f"config.train.keep_best is {best!r}, which is not evaluated; "
                f"there are {', '.join(scores) or 'no evaluations'}"
            )
        return scores

    def _wait(self) -> None:
        """Returns when everything saved is on disk."""
        for track in self.tracks.values():
            track.checkpoints.wait()
            if track.best:
                track.best.wait()

    def position(self) -> dict[str, int]:
        """The data's position; all processes must ask for it."""
        found, rows = distributed.total(self.loader.found, len(self.loader.rows))
        # Each row of a batch is read by as many processes as hold it.
        return self.loader.state(found * self.config.batch_size // rows)

    def _tell_start(self, number: int) -> None:
        """Says what the time was spent on until the first step was handed to the device."""
        spent = STARTUP.finish()
        self.first_step_seconds = sum(spent.values())
        which = "first step" if number == 1 else f"step {number:,}"
        say(f"{self.name}: {which} after {told(spent)}")

    def _fetch(self, pending: "_Pending") -> dict[str, dict[str, float]]:
        """The last step's metrics as `train/name`, once all pending steps are known to be sound."""
        for number, metrics in pending.take():
            for learner, found in metrics.items():
                for name in ("loss", "grad_norm", "update_norm"):
                    if not np.isfinite(found[name]):
                        raise NonFinite(self._explain(number, learner, name, float(found[name])))
        # What is not a number beside a sound loss is a mean over nothing.
        return {
            learner: {
                f"train/{name}": float(value)
                for name, value in found.items()
                if not np.isnan(value)
            }
            for learner, found in metrics.items()
        }

    def _explain(self, number: int, learner: str, name: str, value: float) -> str:
        saved = self.tracks[learner].checkpoints.latest_step
        kept = (
            "nothing was saved yet" if saved is None else f"the checkpoint of step {saved} stands"
        )
        whose = f"{learner}: " if len(self.tracks) > 1 else ""
        return (
            f"{whose}{name} is {value} at step {number}; {kept}. In a new --workdir, a lower "
            "config.optimizer.learning_rate, a longer warmup or a smaller clip_norm usually helps"
        )


class _Due(NamedTuple):
    """What is to be done after a step."""

    log: bool
    evaluate: bool
    save: bool
    stop: bool


class _Pending:
    """Metrics of steps that the host has handed out and not looked at yet."""

    def __init__(self):
        self._metrics: list[tuple[int, Any]] = []
        self._flight = Flight()

    def add(self, number: int, metrics: Any) -> None:
        """Adds a step; returns when no more than a few are still running."""
        self._metrics.append((number, metrics))
        self._flight.add(metrics)

    def take(self) -> list[tuple[int, dict[str, dict[str, np.ndarray]]]]:
        """Fetches everything, which waits for the last step."""
        fetched = jax.device_get(self._metrics)
        self._metrics, self._flight = [], Flight()
        return fetched
