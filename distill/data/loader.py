"""From a source to batches: random access, deterministic, ahead of the device.

The example at position p of a run (p counts from 0 and never restarts) is image
`shuffle(p mod n)` of epoch `p div n`, seen through the view drawn for (seed, epoch, index).
Batch k holds positions k·B … (k+1)·B − 1, whatever the number of hosts or workers, so the
iterator's whole state is one number: the next position.
"""

import collections
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grain
import jax
import numpy as np
from absl import flags, logging
from grain.experimental import index_shuffle

from distill.data.sources import CorruptImage, Source, open_source
from distill.data.views import ViewConfig, evaluation_view, generator, training_view
from distill.errors import RunFailed, UserError

Batch = dict[str, Any]

_ATTEMPTS = 100
_CHUNK = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What a run reads and how.

    Raises:
      ValueError: for values out of bounds.
    """

    source: str = "digits"
    """`digits`, `folder:PATH` or `tfds:NAME`."""
    data_dir: str | None = None
    """Where TFDS keeps its data sets; None for its default."""
    train_split: str = "train"
    validation_split: str | None = "validation"
    """Evaluated during training; None skips it."""
    test_split: str | None = "test"
    """Evaluated once, at the end; None skips it."""
    view: ViewConfig = ViewConfig()
    workers: int = 0
    """Processes that decode; 0 decodes in threads."""
    threads: int = 4
    """Threads that decode, in each process."""
    max_corrupt_share: float = 0.01
    """The run stops if more than this share of the images read cannot be decoded."""

    def __post_init__(self):
        if self.workers < 0 or self.threads < 1:
            raise ValueError(
                f"workers must be 0 or more and threads 1 or more, not {self.workers} and "
                f"{self.threads}"
            )
        if not 0 <= self.max_corrupt_share <= 1:
            raise ValueError(f"max_corrupt_share must be in [0, 1], not {self.max_corrupt_share}")

    def open(self, split: str, *, channels: int) -> Source:
        """Opens one split.

        Raises:
          UserError: if there is no such source or split, or it is empty.
        """
        return open_source(self.source, split, channels=channels, data_dir=self.data_dir)

    def open_splits(self, *, channels: int) -> "Splits":
        """Opens all splits of a run.

        Raises:
          UserError: if one is missing or empty, or they do not have the same classes.
        """
        names = (self.train_split, self.validation_split, self.test_split)
        train, validation, test = (
            None if name is None else self.open(name, channels=channels) for name in names
        )
        for name, split in zip(names[1:], (validation, test), strict=True):
            if split is not None and split.class_names != train.class_names:
                raise UserError(
                    f"splits {self.train_split!r} and {name!r} of {self.source} have different "
                    f"classes: {_compare(train.class_names, split.class_names)}"
                )
        return Splits(train, validation, test)


@dataclasses.dataclass(frozen=True)
class Splits:
    """The images of a run."""

    train: Source
    validation: Source | None
    test: Source | None

    def check_classes(self, classes: int, whose: str) -> None:
        """Checks that a model distinguishes the classes of the data.

        Raises:
          UserError: if the counts differ.
        """
        if classes != len(self.train.class_names):
            raise UserError(
                f"{whose} has {classes} classes, but the data has {len(self.train.class_names)} "
                f"({_abbreviate(self.train.class_names)})"
            )


def _compare(one: tuple[str, ...], other: tuple[str, ...]) -> str:
    if len(one) != len(other):
        return f"{len(one)} and {len(other)}"
    place, pair = next((i, p) for i, p in enumerate(zip(one, other, strict=True)) if p[0] != p[1])
    return f"class {place} is {pair[0]!r} in one and {pair[1]!r} in the other"


def _abbreviate(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) <= 10 else f"{', '.join(names[:8])}, … {names[-1]}"


@dataclasses.dataclass(frozen=True)
class TrainingViews:
    """One host's endless sequence of training examples, by local position."""

    source: Source
    view: ViewConfig
    size: int
    seed: int
    batch_size: int
    host: int = 0
    hosts: int = 1
    start: int = 0
    """First global position; a multiple of the batch size unless a run changed its batch size."""

    def __len__(self) -> int:
        return (2**62 - self.start) // self.hosts

    def __getitem__(self, local: int) -> Batch:
        """The host's example `local`: image uint8 [size, size, C], label, index, skipped."""
        per_host = self.batch_size // self.hosts
        step, offset = divmod(int(local), per_host)
        position = self.start + step * self.batch_size + self.host * per_host + offset
        return self.example(position)

    def example(self, position: int) -> Batch:
        """The example at a global position; the next readable image stands in for a corrupt one.

        Raises:
          RunFailed: if a long stretch of images cannot be decoded.
        """
        count = len(self.source)
        epoch, within = divmod(position, count)
        skipped = -1
        for attempt in range(_ATTEMPTS):
            index = shuffled_index((within + attempt) % count, count, self.seed, epoch)
            try:
                image, label = self.source.read(index)
            except CorruptImage:
                skipped = index if skipped < 0 else skipped
                continue
            rng = generator(self.seed, epoch, index)
            return {
                "image": training_view(image, self.size, self.view, rng),
                "label": np.int32(label),
                "index": np.int64(index),
                "mask": np.True_,
                "skipped": np.int64(skipped),
            }
        raise RunFailed(
            f"{_ATTEMPTS} images in a row cannot be decoded, the last is "
            f"{self.source.describe(index)}; check the data"
        )


@dataclasses.dataclass(frozen=True)
class EvaluationViews:
    """One host's share of a split in order, padded with masked examples to whole batches."""

    source: Source
    view: ViewConfig
    size: int
    batch_size: int
    host: int = 0
    hosts: int = 1

    @property
    def steps(self) -> int:
        """Number of batches."""
        return -(-len(self.source) // self.batch_size)

    def __len__(self) -> int:
        return self.steps * self.batch_size // self.hosts

    def __getitem__(self, local: int) -> Batch:
        """The host's example `local`; `mask` is False for padding and corrupt images."""
        per_host = self.batch_size // self.hosts
        step, offset = divmod(int(local), per_host)
        index = step * self.batch_size + self.host * per_host + offset
        image, label, skipped = None, 0, -1
        if index < len(self.source):
            try:
                image, label = self.source.read(index)
            except CorruptImage:
                skipped = index
        if image is None:
            view = np.zeros((self.size, self.size, self.source.channels), np.uint8)
        else:
            view = evaluation_view(image, self.size, self.view)
        return {
            "image": view,
            "label": np.int32(label),
            "index": np.int64(index),
            "mask": np.bool_(image is not None),
            "skipped": np.int64(skipped),
        }


def shuffled_index(within: int, count: int, seed: int, epoch: int) -> int:
    """The image at place `within` of an epoch: a keyed permutation of range(count)."""
    if count == 1:
        return 0
    key = int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])
    return index_shuffle(within, max_index=count - 1, seed=key, rounds=4)


def batches(views: TrainingViews | EvaluationViews, config: DataConfig) -> Iterator[Batch]:
    """Host batches of numpy arrays, decoded by Grain in threads or worker processes.

    Threads and workers take turns at chunks of a batch, which are joined in order.
    """
    per_host = views.batch_size // views.hosts
    chunk = max(size for size in range(1, _CHUNK + 1) if per_host % size == 0)
    options = grain.ReadOptions(num_threads=config.threads, prefetch_buffer_size=2 * config.threads)
    dataset = grain.MapDataset.source(views).batch(chunk).to_iter_dataset(options)
    if config.workers:
        # Grain reads a flag of its own when it starts workers; a library's caller may have none.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        dataset = dataset.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=config.workers, per_worker_buffer_size=2)
        )
    return iter(dataset.batch(per_host // chunk, batch_fn=_join))


def _join(chunks: Sequence[Batch]) -> Batch:
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


class CorruptionMonitor:
    """Counts images that could not be decoded, names each once, and stops past a share."""

    def __init__(self, source: Source, max_share: float):
        self._source = source
        self._max_share = max_share
        self._seen = 0
        self._named: set[int] = set()
        self.skipped = 0

    def check(self, batch: Batch) -> Batch:
        """Takes `skipped` out of a host batch and accounts for it.

        Raises:
          RunFailed: if more than the allowed share of the images read was corrupt.
        """
        batch = dict(batch)
        skipped = batch.pop("skipped")
        self._seen += len(skipped)
        for index in skipped[skipped >= 0].tolist():
            self.skipped += 1
            if index not in self._named:
                self._named.add(index)
                logging.warning("skipped corrupt image %s", self._source.describe(index))
        # A single bad image in a small first batch is no reason to stop a long run.
        allowed = max(self._max_share * self._seen, 1 if self._max_share else 0)
        if self.skipped > allowed:
            raise RunFailed(
                f"{self.skipped} of {self._seen} images could not be decoded, more than the share "
                f"of {self._max_share} that config.data.max_corrupt_share allows; the last is "
                f"{self._source.describe(int(skipped.max()))}. Repair the data or raise the share"
            )
        return batch


class TrainLoader:
    """Endless training batches on the device, a few ahead of the step that needs them.

    Args:
      source: the training images.
      config: how to read them.
      size: side of the views in pixels.
      batch_size: global, over all hosts.
      seed: of order and views.
      put: places a host batch on the devices.
      next_example: global position to start at; what `state()` returned.
      ahead: how many batches to keep ready.
    """

    def __init__(
        self,
        source: Source,
        config: DataConfig,
        *,
        size: int,
        batch_size: int,
        seed: int,
        put: Callable[[Batch], Batch],
        next_example: int = 0,
        ahead: int = 2,
    ):
        if batch_size > len(source):
            raise UserError(
                f"batch size {batch_size} is larger than the data ({len(source)} images)"
            )
        views = TrainingViews(
            source=source,
            view=config.view,
            size=size,
            seed=seed,
            batch_size=batch_size,
            host=jax.process_index(),
            hosts=jax.process_count(),
            start=next_example,
        )
        self._monitor = CorruptionMonitor(source, config.max_corrupt_share)
        self._batches = batches(views, config)
        self._put = put
        self._batch_size = batch_size
        self._next_example = next_example
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._ready = collections.deque(self._submit() for _ in range(ahead))
        self.wait_seconds = 0.0

    @property
    def skipped(self) -> int:
        """Corrupt images met so far."""
        return self._monitor.skipped

    def _submit(self):
        return self._executor.submit(lambda: self._put(self._monitor.check(next(self._batches))))

    def __iter__(self) -> "TrainLoader":
        return self

    def __next__(self) -> Batch:
        """The next batch; time spent waiting for it is added to `wait_seconds`."""
        start = time.perf_counter()
        batch = self._ready.popleft().result()
        self.wait_seconds += time.perf_counter() - start
        self._ready.append(self._submit())
        self._next_example += self._batch_size
        return batch

    def state(self) -> dict[str, int]:
        """What a checkpoint must hold to continue exactly here."""
        return {"next_example": self._next_example}

    def close(self) -> None:
        """Stops reading ahead."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._batches.close()


class EvalLoader:
    """Goes over a split once per call, in order, in batches padded with masked examples."""

    def __init__(
        self,
        source: Source,
        config: DataConfig,
        *,
        size: int,
        batch_size: int,
        put: Callable[[Batch], Batch],
    ):
        self.source = source
        self._config = config
        self._put = put
        self._views = EvaluationViews(
            source=source,
            view=config.view,
            size=size,
            batch_size=batch_size,
            host=jax.process_index(),
            hosts=jax.process_count(),
        )

    def __iter__(self) -> Iterator[Batch]:
        monitor = CorruptionMonitor(self.source, self._config.max_corrupt_share)
        for batch in batches(self._views, self._config):
            yield self._put(monitor.check(batch))
