"""What teachers say of a run's views, asked batch by batch and written as it comes."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from distill.data import Batch, Contents, Splits, StoreWriter, TrainLoader
from distill.data.batch_spec import DESCRIBED, abstract_batch, batch_spec
from distill.data.spec import ExampleSpec
from distill.nn import Params
from distill.parallel import distributed, in_flight, local_rows, put_batch
from distill.parallel.compiling import compiled, jit_replicated
from distill.parallel.printed import say
from distill.runs.storing import StoreTargetsConfig
from distill.tasks.matching.function_matching import FunctionMatching
from distill.tasks.matching.targets import check_storable, encode, magnitudes
from distill.train.clock import Clock
from distill.train.loop import Stopped
from distill.train.progress import Progress
from distill.train.remaining import Remaining
from distill.train.run import blame, open_mesh
from distill.train.signals import StopRequest
from distill.train.step import prepare


class Answers:
    """What teachers say of a batch, as it is stored."""

    def __init__(self, config: StoreTargetsConfig, task: FunctionMatching, mesh: Mesh):
        self._config = config
        self._mesh = mesh
        self._program: jax.stages.Compiled | None = None

        # What training compiles on a CPU: nothing else would give the same last bits.
        self._prepare = jax.jit(
            lambda frozen, batch, step: prepare(task, config.seed, step, frozen, batch)
        )
        self._encode = jit_replicated(
            lambda prepared: (
                encode(prepared.teachers, config.store),
                prepared.weights,
                magnitudes(prepared.teachers, config.store),
            ),
            mesh,
        )

    def __call__(self, params: dict[str, Params], batch: Batch, step: int) -> Any:
        """The arrays to store, each image's share of its mixture, and how large values are.

        They are not waited for.
        """
        asked = (params, batch, np.int32(step))
        if self._program is None:
            self._program = compiled(self._prepare.lower(*asked), self._mesh)
        return self._encode(self._program(*asked))

    def arrays(
        self, params: dict[str, Params], images: ExampleSpec, size: int
    ) -> dict[str, tuple[str, tuple]]:
        """Dtypes and shapes per example, by name.

        Raises:
          ConfigError: if there are none, or not as many classes as are to be kept.
        """
        spec = batch_spec(images, size, teacher_view=self._config.matching.teacher_view)
        batch = abstract_batch(spec, self._config.train.batch_size)
        with blame("config.store"):
            prepared = jax.eval_shape(self._prepare, params, batch, np.int32(0))
            found, *_ = jax.eval_shape(self._encode, prepared)
            if not found:
                raise ValueError("config.matching.losses compares nothing with a teacher")
        return {name: (one.dtype.name, one.shape[1:]) for name, one in found.items()}


def write_answers(
    name: str,
    config: StoreTargetsConfig,
    path: Path,
    contents: Contents,
    answer: Callable[[Batch, int], Any],
    splits: Splits,
    size: int,
) -> None:
    """Writes what is not written yet, a few batches behind the device.

    Raises:
      RunFailed: if answers are not finite, or too large for the dtype they are stored in.
      Stopped: after SIGTERM or SIGINT.
    """
    mesh, batch_size = open_mesh(config), contents.batch_size
    rows = local_rows(mesh, batch_size)
    with contextlib.ExitStack() as stack:
        writer = StoreWriter(path, contents) if distributed.is_primary() else None
        if writer is not None:
            stack.callback(writer.close)
        first = distributed.agree(0 if writer is None else writer.position // batch_size)
        last = contents.examples // batch_size
        if first == last:
            return
        if first:
            say(f"{name}: {first} of {last} batches are there already; compares their checksums")
            if writer is not None:
                writer.check()
        loader = TrainLoader(
            splits.train,
            config.data,
            size=size,
            batch_size=batch_size,
            seed=config.seed,
            put=lambda batch: (batch, put_batch(mesh, _for_device(batch), size=batch_size)),
            rows=rows,
            teacher_view=config.matching.teacher_view,
            needs_labels=config.matching.losses.needs_labels,
            describe=True,
            next_example=first * batch_size,
        )
        stack.callback(loader.close)
        asked = _Asked(loader, answer, range(first, last), stack.enter_context(StopRequest()))
        clock, left = Clock(batch_size), Remaining(last, {})
        progress = Progress(name, last, left.seconds)
        stack.callback(progress.close)
        every = config.train.intervals(last).log
        clock.start(first, loader.wait_seconds)
        left.stepped(first, clock.training_seconds)
        for done, host, answers in in_flight(asked):
            arrays, shares, largest = jax.device_get(answers)
            views = _views(contents, host, rows)
            indices = views["index"]
            check_storable(
                largest, config.store, lambda row, of=indices: splits.train.describe(int(of[row]))
            )
            if writer is not None:
                writer.write(_records(contents, views, arrays, shares))
            progress.tick(done)
            if done == last or done % every == 0:
                clock.advance()
                left.stepped(done, clock.training_seconds)
                speed = clock.window(done, loader.wait_seconds)
                progress.line(done, speed["train/images_per_second"], speed["train/data_wait"])
        if done < last:
            raise Stopped(
                f"stopped by {asked.stop} after batch {done} of {last}; files that were finished "
                "stand. Run the same command to continue"
            )


@dataclasses.dataclass
class _Asked:
    """Batches whose answers were asked for, until all are or the command is to stop."""

    loader: TrainLoader[tuple[Batch, Batch]]
    answer: Callable[[Batch, int], Any]
    steps: range
    request: StopRequest
    stop: str | None = None
    """What asked to stop."""

    def __iter__(self) -> Iterator[tuple[int, Batch, Any]]:
        """How many batches of the run there were, the last of them on the host, its answers."""
        for step in self.steps:
            host, batch = next(self.loader)
            yield step + 1, host, self.answer(batch, step)
            self.stop = self.request.after(step + 1)
            if self.stop:
                return


def _for_device(batch: Batch) -> Batch:
    return {key: array for key, array in batch.items() if key not in DESCRIBED}


def _views(contents: Contents, batch: Batch, rows: Sequence[int]) -> np.ndarray:
    """The whole batch's records without what is known of the mixture, gathered from everywhere."""
    views = np.zeros(len(rows), contents.record)
    for field in ("epoch", "index", "box", "flip"):
        views[field] = batch[field]
    width = contents.record.itemsize
    gathered = distributed.gather_rows(rows, views.view(np.uint8).reshape(-1, width))
    return gathered.reshape(-1).view(contents.record)


def _records(
    contents: Contents, views: np.ndarray, arrays: dict[str, np.ndarray], shares: np.ndarray
) -> np.ndarray:
    """The records of a batch: its views, what was mixed, and what teachers said of it."""
    records = views.copy()
    # As `distill.mixing.roll` pairs them.
    records["partner"] = np.roll(views["index"], 1)
    records["share"] = shares
    for name in contents.arrays:
        records[name] = arrays[name]
    return records
