"""From examples to batches on the device, a few ahead of the step that needs them."""

import collections
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Self, TypeVar

import grain
import numpy as np
from absl import flags, logging

from distill.data.config import DataConfig
from distill.data.examples import Altered, Batch, EvaluationViews, TeacherView, TrainingViews
from distill.data.labels import check_batch_labels
from distill.data.order import Mixed
from distill.data.sources import CorruptImage, Source
from distill.data.sources.base import is_remote
from distill.data.store import Store
from distill.data.workers import (
    HostBatches,
    begin_worker,
    chosen_threads,
    chosen_workers,
    with_unsignalled_workers,
)
from distill.errors import RunFailed, UserError
from distill.evaluation_view import EvaluationView

# Threads and workers take turns at so many examples, or fewer where a batch needs it.
_CHUNK = 32
# What waits for a network waits for one image after another of a chunk.
_REMOTE_CHUNK = 8
AHEAD = 2
"""Training batches that are kept ready."""
PREFETCH = 2
"""Chunks that are read ahead for each thread."""
WORKER_BUFFER = 2
"""Chunks of each worker that wait to be taken."""
# The share of corrupt images is judged on so many images, or on all where there are fewer.
_SMALLEST_SAMPLE = 10_000

Placed = TypeVar("Placed")
"""A batch on the devices, and whatever else goes with it."""


def batches(views: TrainingViews | EvaluationViews, config: DataConfig) -> HostBatches:
    """Host batches of numpy arrays, decoded by Grain in threads or worker processes.

    Threads and workers take turns at chunks of a batch, which are joined in order.
    """
    rows = len(views.rows)
    chunk = chunk_of(rows, views.source)
    threads = chosen_threads(config.threads, views.source)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=PREFETCH * threads)
    dataset = grain.MapDataset.source(_Chunks(views, chunk)).to_iter_dataset(options)
    workers = chosen_workers(config.workers, len(views.source))
    if workers:
        # Grain reads a flag of its own when it starts workers; a library's caller may have none.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        dataset = dataset.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=WORKER_BUFFER),
            worker_init_fn=begin_worker,
        )
    iterator = iter(dataset.batch(rows // chunk, batch_fn=_join))
    return with_unsignalled_workers(iterator) if workers else iterator


def chunk_of(rows: int, source: Source) -> int:
    """How many examples threads and workers take at a time, of batches of so many rows."""
    longest = _REMOTE_CHUNK if is_remote(source) else _CHUNK
    return max(size for size in range(1, longest + 1) if rows % size == 0)


@dataclasses.dataclass(frozen=True)
class _Chunks:
    """Views in stacks of `size`: with small images, a call by Grain costs as much as a view."""

    views: TrainingViews | EvaluationViews
    size: int

    def __len__(self) -> int:
        return len(self.views) // self.size

    def __getitem__(self, index: int) -> Batch:
        start = index * self.size
        first = self.views[start]
        chunk = {name: _empty(self.size, array) for name, array in first.items()}
        images = chunk["image"]
        for place in range(self.size):
            example = first if place == 0 else self.views.read(start + place, images[place])
            for name, array in example.items():
                # Views of images are mostly there already.
                if getattr(array, "base", None) is not images:
                    chunk[name][place] = array
        return chunk


def _empty(rows: int, array: np.ndarray) -> np.ndarray:
    return np.empty((rows, *np.shape(array)), np.asarray(array).dtype)


def _join(chunks: Sequence[Batch]) -> Batch:
    if len(chunks) == 1:
        return chunks[0]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def _reason(source: Source, index: int) -> str:
    """Why an image cannot be decoded; only batches come from the workers that found it out."""
    try:
        np.asarray(source.read(index)["image"])
    except CorruptImage as error:
        return str(error)
    return "it could not be decoded, but can now"


class CorruptionMonitor:
    """Counts images that could not be decoded, names each once, and stops past a share."""

    def __init__(self, source: Source, max_share: float, *, seen: int = 0, skipped: int = 0):
        self._source = source
        self._max_share = max_share
        self._seen = seen
        self._skipped_before = skipped
        self._named: set[int] = set()
        self.found = 0
        """Corrupt images met by this object."""

    def check(self, batch: Batch) -> Batch:
        """Takes `skipped` out of a host batch and accounts for it.

        Raises:
          RunFailed: if more than the allowed share of the images read was corrupt.
        """
        batch = dict(batch)
        skipped = batch.pop("skipped")
        # What is neither an image nor one that cannot be decoded fills up the last batch.
        self._seen += np.count_nonzero(batch["mask"] | (skipped >= 0))
        for index in skipped[skipped >= 0].tolist():
            self.found += 1
            if index not in self._named:
                self._named.add(index)
                where, why = self._source.describe(index), _reason(self._source, index)
                logging.warning("skipped corrupt image %s: %s", where, why)
        # A few bad images in the first batch are no reason to stop a long run.
        sample = max(self._seen, min(len(self._source), _SMALLEST_SAMPLE))
        allowed = max(self._max_share * sample, 1 if self._max_share else 0)
        corrupt = self._skipped_before + self.found
        if corrupt > allowed:
            raise RunFailed(
                f"{corrupt} of {self._seen} images could not be decoded, more than the share "
                f"of {self._max_share} that config.data.max_corrupt_share, in evaluations "
                "--max_corrupt_share, allows; the last is "
                f"{self._source.describe(int(skipped.max()))}. Repair the data or raise the share"
            )
        return batch


class TrainLoader(Generic[Placed]):
    """Endless training batches on the device, a few ahead of the step that needs them.

    Args:
      source: the training images.
      config: how to read them.
      size: side of the views in pixels.
      batch_size: global, over all processes.
      rows: of each batch, those to read here; None reads all.
      seed: of order and views.
      put: places these rows on the devices.
      teacher_view: what `teacher_image` of a batch holds; "same" leaves it out.
      store: whose examples to show again in place of new ones.
      needs_labels: whether an image without a label is an error.
      describe: whether batches say which views they hold.
      next_example: global position to start at; what `state()` returned.
      skipped: corrupt images that all processes met before that; what `state()` returned.
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
        put: Callable[[Batch], Placed],
        rows: Sequence[int] | None = None,
        teacher_view: TeacherView = "same",
        store: Store | None = None,
        needs_labels: bool = False,
        describe: bool = False,
        next_example: int = 0,
        skipped: int = 0,
        ahead: int = AHEAD,
    ):
        if batch_size > len(source):
            raise UserError(
                f"batch size {batch_size} is larger than the data ({len(source)} images)"
            )
        self.rows = range(batch_size) if rows is None else rows
        views = TrainingViews(
            source=source,
            view=config.view,
            size=size,
            seed=seed,
            batch_size=batch_size,
            rows=self.rows,
            start=next_example,
            teacher_view=teacher_view,
            store=store,
            describe=describe,
            decoder=config.decoder,
        )
        # Of what was met before, these rows' share.
        self._monitor = CorruptionMonitor(
            source,
            config.max_corrupt_share,
            seen=next_example * len(self.rows) // batch_size,
            skipped=skipped * len(self.rows) // batch_size,
        )
        self._source, self._order = source, views.order
        self._batches = batches(views, config)
        self._put = put
        self._labelled = source if needs_labels else None
        self._batch_size = batch_size
        self._next_example = next_example
        self._skipped_before = skipped
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._ready = collections.deque(self._submit() for _ in range(ahead))
        self.wait_seconds = 0.0
        self.found = 0
        """Corrupt images met here, in the batches handed out."""

    def _submit(self):
        return self._executor.submit(self._load)

    def _load(self) -> tuple[Placed, int]:
        batch = self._monitor.check(next(self._batches))
        if self._labelled is not None:
            check_batch_labels(batch, self._labelled)
        return self._put(batch), self._monitor.found

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Placed:
        """The next batch; time spent waiting for it is added to `wait_seconds`.

        Raises:
          RunFailed: if too many images are corrupt, or one has no label where all need one.
        """
        start = time.perf_counter()
        batch, self.found = self._ready.popleft().result()
        self.wait_seconds += time.perf_counter() - start
        self._ready.append(self._submit())
        self._next_example += self._batch_size
        return batch

    @property
    def images_seen(self) -> dict[str, int]:
        """Of a mixture, how many images of each part were in the batches handed out, by its name.

        Of all processes together, since the run began.
        """
        order, names = self._order, getattr(self._source, "proportions", {})
        if not isinstance(order, Mixed):
            return {}
        return dict(zip(names, order.images_before(self._next_example), strict=True))

    def state(self, found: int | None = None) -> dict[str, int]:
        """What a checkpoint must hold to continue exactly here.

        Args:
          found: corrupt images met by all processes; None if there is no other.
        """
        found = self.found if found is None else found
        return {"next_example": self._next_example, "skipped": self._skipped_before + found}

    def close(self) -> None:
        """Stops reading ahead."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._batches.close()


class EvalLoader:
    """Goes over a split once per call, in order, in batches padded with masked examples.

    Args:
      source: the images.
      config: how to read them.
      size: side of the views in pixels.
      batch_size: global, over all processes.
      put: places these rows on the devices.
      rows: of each batch, those to read here; None reads all.
      view_seed: draws training views, the same in each call; None cuts evaluation views.
      view: how evaluation views are cut; None takes what `config` says.
      altered: see `EvaluationViews`.
    """

    def __init__(
        self,
        source: Source,
        config: DataConfig,
        *,
        size: int,
        batch_size: int,
        put: Callable[[Batch], Batch],
        rows: Sequence[int] | None = None,
        view_seed: int | None = None,
        view: EvaluationView | None = None,
        altered: Altered | None = None,
    ):
        self.source = source
        self._config = config
        self._put = put
        self._views = EvaluationViews(
            source=source,
            view=config.view,
            size=size,
            batch_size=batch_size,
            rows=range(batch_size) if rows is None else rows,
            view_seed=view_seed,
            evaluation=view,
            altered=altered,
            decoder=config.decoder,
        )

    def __iter__(self) -> Iterator[Batch]:
        monitor = CorruptionMonitor(self.source, self._config.max_corrupt_share)
        with contextlib.closing(batches(self._views, self._config)) as host_batches:
            for batch in host_batches:
                yield self._put(monitor.check(batch))
