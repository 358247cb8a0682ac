r"""Stores what teachers say of a run's views, so that students can be distilled without them.

  python pipelines/store_targets.py --config=configs/distill/digits.py --workdir=runs/targets \
      --config.teacher.workdir=runs/teacher [--config.store.epochs=30]
  python pipelines/distill_student.py --config=configs/distill/digits.py --workdir=runs/student \
      --config.targets=runs/targets

The config is that of the distillation: the same seed, data and mixing make the same views. A run
that is longer than what is stored sees it again and again. Running the same command again goes on
after the last file that was finished.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from distill.command.launch import launch_training
from distill.config import to_dict, with_defaults
from distill.data import Batch, Contents, Splits, Store, StoreWriter, TrainLoader
from distill.data.batch_spec import DESCRIBED, abstract_batch, batch_spec
from distill.data.spec import ExampleSpec
from distill.nn import Params
from distill.parallel import distributed, in_flight, local_rows, put_batch, replicated
from distill.runs.stored_teachers import describe_teachers, views_shown
from distill.runs.teachers import (
    fingerprints,
    load_teachers,
    say_scores,
    score,
    shown_as,
)
from distill.tasks.matching.function_matching import FunctionMatching
from distill.tasks.matching.targets import TargetFormat, check_storable, encode, magnitudes
from distill.train.clock import Clock
from distill.train.loop import Stopped
from distill.train.memory import Knobs, explained
from distill.train.progress import Progress, say
from distill.train.run import HOW_IT_RUNS, blame, open_mesh
from distill.train.signals import StopRequest
from distill.train.step import prepare
from distill.train.workdir import Workdir
from pipelines.distill_student import (
    DistillConfig,
    agree_on_classes,
    check_teachers,
    open_splits,
    view_size,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoreConfig(TargetFormat):
    """What of the teachers' outputs to store, and for how long a run."""

    epochs: float | None = None
    """Of views; None stores the whole run's."""
    examples_per_file: int = 65_536
    """Rounded down to whole batches, at least one; what an interruption can cost."""

    def __post_init__(self):
        super().__post_init__()
        if self.epochs is not None and self.epochs <= 0:
            raise ValueError(f"epochs must be positive, not {self.epochs}")
        if self.examples_per_file < 1:
            raise ValueError(f"examples_per_file must be positive, not {self.examples_per_file}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoreTargetsConfig(DistillConfig):
    """A distillation, and what to store of it."""

    store: StoreConfig = StoreConfig()

    def __post_init__(self):
        super().__post_init__()
        if self.targets is not None:
            raise ValueError("targets are stored in --workdir; leave config.targets out")

    def batches(self, images: int) -> int:
        """How many batches to store.

        Raises:
          ConfigError: if that is less than one.
        """
        if self.store.epochs is None:
            with blame("config.train"):
                return self.train.steps(images)
        batches = math.floor(self.store.epochs * images / self.train.batch_size)
        with blame("config.store.epochs"):
            if batches < 1:
                raise ValueError(
                    f"{self.store.epochs:g} of {images} images are less than one batch of "
                    f"{self.train.batch_size}"
                )
        return batches


def run(config: StoreTargetsConfig, workdir: Workdir, name: str = "store") -> Store:
    """Asks the teachers for every view of the run and writes what they say."""
    mesh = open_mesh(config)
    splits = open_splits(config, config.models)
    config = config.with_classes(splits)
    students = {
        str(number): model.network().placed(mesh, config.mesh.table)
        for number, model in enumerate(config.models)
    }
    batches = config.batches(len(splits.train))
    teachers, params = load_teachers(config.every_teacher, mesh)
    names, splits, teachers = agree_on_classes(config, students, splits, teachers)
    for student in students.values():
        check_teachers(config, student, teachers)
    config, size = shown_as(config, teachers), view_size(students, teachers)
    answers = _Answers(config, FunctionMatching(students["0"], teachers, config.matching), mesh)
    batch_size, store = config.train.batch_size, config.store
    arrays = answers.arrays(params, splits.train.spec, size)
    knobs = Knobs.of(config.train, mesh, remat={})
    with explained(lambda: knobs.advice(prepared=True)):
        scores = score(config, teachers, params, splits)
    say_scores(name, scores, splits)
    contents = Contents(
        examples=batches * batch_size,
        batch_size=batch_size,
        examples_per_file=max(store.examples_per_file // batch_size, 1) * batch_size,
        arrays=arrays,
        about={
            "format": {"dtype": store.dtype, "top_k": store.top_k},
            "views": views_shown(config, config.matching, splits, size),
            "teachers": describe_teachers(
                config.every_teacher, teachers, fingerprints(config.every_teacher, params)
            ),
            "classes": list(names),
            "accuracy": {key: one.accuracy for key, one in scores.items()},
            "images": {key: one.images for key, one in scores.items()},
            "jax": jax.__version__,
        },
    )
    workdir.claim(
        to_dict(config),
        may_change=HOW_IT_RUNS,
        complete=functools.partial(with_defaults, config),
    )
    with explained(lambda: knobs.advice(prepared=True)):
        answer = functools.partial(answers, params)
        _write(name, config, workdir.path, contents, answer, splits, size)
    # The others wait until the primary has written its last file.
    distributed.agree(0)
    stored = sum(file.stat().st_size for file in workdir.path.glob("*.array_record"))
    epochs = contents.examples / len(splits.train)
    say(
        f"{name}: {contents.examples:,} views ({epochs:.4g} epochs) in {contents.files} file(s), "
        f"{stored / 2**20:,.1f} MiB, {contents.record.itemsize:,} bytes each: {workdir.path}"
    )
    return Store(workdir.path)


class _Answers:
    """What teachers say of a batch, as it is stored."""

    def __init__(self, config: StoreTargetsConfig, task: FunctionMatching, mesh: Mesh):
        self._config = config

        # What training compiles on a CPU: nothing else would give the same last bits.
        self._prepare = jax.jit(
            lambda frozen, batch, step: prepare(task, config.seed, step, frozen, batch)
        )
        # What is on every device can be fetched by every process.
        self._encode = jax.jit(
            lambda prepared: (
                encode(prepared.teachers, config.store),
                prepared.weights,
                magnitudes(prepared.teachers, config.store),
            ),
            out_shardings=replicated(mesh),
        )

    def __call__(self, params: dict[str, Params], batch: Batch, step: int) -> Any:
        """The arrays to store, each image's share of its mixture, and how large values are.

        They are not waited for.
        """
        return self._encode(self._prepare(params, batch, np.int32(step)))

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


def _write(
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
            say(f"{name}: {first} of {last} batches are there already")
        loader = TrainLoader(
            splits.train,
            config.data,
            size=size,
            batch_size=batch_size,
            seed=config.seed,
            put=lambda batch: (batch, put_batch(mesh, _for_device(batch), size=batch_size)),
            rows=rows,
            teacher_view=config.matching.teacher_view,
            needs_labels=config.matching.losses.labels > 0,
            describe=True,
            next_example=first * batch_size,
        )
        stack.callback(loader.close)
        asked = _Asked(loader, answer, range(first, last), stack.enter_context(StopRequest()))
        progress, clock = Progress(name, last, first), Clock(batch_size)
        every = config.train.intervals(last).log
        clock.start(first, loader.wait_seconds)
        for done, host, answers in in_flight(asked):
            arrays, shares, largest = jax.device_get(answers)
            views = _views(contents, host, rows)
            indices = views["index"]
            check_storable(
                largest, config.store, lambda row, of=indices: splits.train.describe(int(of[row]))
            )
            if writer is not None:
                writer.write(_records(contents, views, arrays, shares))
            if done == last or done % every == 0:
                clock.advance()
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

    loader: TrainLoader
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


if __name__ == "__main__":
    launch_training(__doc__, StoreTargetsConfig, run)
