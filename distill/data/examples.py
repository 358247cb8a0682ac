"""Sequences of examples, read at random: what stands at each position of a run or of a split.

The training example at position p (p counts from 0 and never restarts) is the image that
`distill.data.order` has there, seen through the view drawn for (seed, epoch, index); a teacher that
is not to see the same gets a view of its own.
A run that replays a store reads image and view from the record of position `p mod N` instead, N
records being stored.
Batch k holds positions k·B … (k+1)·B − 1, whatever the number of processes or workers, so the
whole state of an iterator is one number: the next position. A process reads those rows of each
batch that its devices hold.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from distill.bounds import check_fields
from distill.data.batch_spec import STORED, TeacherView, check_spec
from distill.data.fast import Decoder
from distill.data.order import Order, order_of
from distill.data.sources import CorruptImage, Source
from distill.data.spec import Cut, Draw, Example, missing, read_example, see
from distill.data.store import Store, view_of
from distill.data.views import (
    View,
    ViewConfig,
    cut_view,
    draw_view,
    evaluation_view,
    generator,
    training_view,
)
from distill.errors import RunFailed
from distill.evaluation_view import EvaluationView, Filter

Batch = dict[str, Any]
Altered = Callable[[np.ndarray, int], np.ndarray]

# The epoch of training views that are for evaluation. Training never gets there: its positions end
# at 2^62, and its epochs with them. Nor can its keys look like this one to NumPy, which joins the
# numbers of a key as 32-bit words: no epoch has two words of ones.
EVALUATION_EPOCH = 2**64 - 1

_ATTEMPTS = 100
# In the key of what is drawn of what goes with an image.
_BESIDE = 2


@dataclasses.dataclass(frozen=True)
class TrainingViews:
    """One process's endless sequence of training examples, by local position."""

    source: Source
    view: ViewConfig
    size: int
    seed: int
    batch_size: int
    rows: Sequence[int]
    """Of each batch, those to read."""
    start: int = 0
    """First global position; a multiple of the batch size unless a run changed its batch size."""
    teacher_view: TeacherView = "same"
    """Unless it is "same", examples also hold `teacher_image`, uint8 [size, size, C]."""
    describe: bool = False
    """Whether examples also hold their `epoch` and their view: `box`, float64 [4], and `flip`."""
    store: Store | None = None
    """Whose examples to show again, in a circle, in place of new ones. Examples hold the stored
    arrays, by name after `STORED`, and nothing else for teachers."""
    decoder: Decoder = "pillow"
    """What resizes views."""

    def __post_init__(self):
        check_fields(self)
        check_spec(self.source.spec, self.source.class_names)

    @functools.cached_property
    def order(self) -> Order:
        """Which image stands where."""
        return order_of(self.source, len(self.source), self.seed)

    def __len__(self) -> int:
        return (2**62 - self.start) // self.batch_size * len(self.rows)

    def __getitem__(self, local: int) -> Batch:
        """The process's example `local`, with the arrays of its `batch_spec` and `skipped`."""
        return self.read(local)

    def read(self, local: int, out: np.ndarray | None = None) -> Batch:
        """As `self[local]`; its view of the image is written to `out`, if that saves a copy."""
        step, offset = divmod(int(local), len(self.rows))
        return self.example(self.start + step * self.batch_size + self.rows[offset], out)

    def example(self, position: int, out: np.ndarray | None = None) -> Batch:
        """The example at a global position; the next readable image stands in for a corrupt one.

        Args:
          position: from 0.
          out: see `read`.

        Raises:
          RunFailed: if a long stretch of images cannot be decoded, or a stored example's image, or
            an example is not what its source says.
        """
        if self.store is not None:
            return self._replayed(self.store, position, out)
        skipped = -1
        for attempt in range(_ATTEMPTS):
            epoch, index = self.order.at(position, attempt)
            rng = generator(self.seed, epoch, index)
            try:
                example = read_example(self.source, index)
                if self.teacher_view != "same":
                    # Looked at twice: two parts of it take longer to decode.
                    example = {**example, "image": np.asarray(example["image"])}
                image = example["image"]
                height, width = image.shape[:2]
                view = draw_view(height, width, self.view, rng, self.decoder)
                seen = self._seen(example, view, epoch, index, out)
                for_teacher = self._for_teacher(image, epoch, index)
            # Of an image that is decoded in parts, also while views are cut.
            except CorruptImage:
                skipped = index if skipped < 0 else skipped
                continue
            return {
                **seen,
                **for_teacher,
                **(_described(epoch, view) if self.describe else {}),
                **_row(index, skipped),
            }
        raise RunFailed(
            f"{_ATTEMPTS} images in a row cannot be decoded, the last is "
            f"{self.source.describe(index)}; check the data"
        )

    def _replayed(self, store: Store, position: int, out: np.ndarray | None) -> Batch:
        record = store.read(position % len(store))
        index = int(record["index"])
        try:
            # What goes with the image is drawn anew where the store is gone through again.
            epoch = self.order.at(position).epoch
            example = read_example(self.source, index)
            seen = self._seen(example, view_of(record), epoch, index, out)
        except CorruptImage as error:
            raise RunFailed(
                f"{self.source.describe(index)} cannot be decoded ({error}), but could when its "
                f"targets were stored in {store.path}; restore it, or store the targets anew"
            ) from error
        arrays = {STORED + name: record[name] for name in store.contents.arrays}
        return {**seen, **arrays, **_row(index)}

    def _seen(
        self, example: Example, view: View, epoch: int, index: int, out: np.ndarray | None
    ) -> Example:
        cut = _cutting(view, self.size, self.view.evaluation.filter, self.decoder, out)
        draw = functools.partial(generator, self.seed, epoch, index, _BESIDE)
        return _labelled(see(example, self.source.spec, cut, draw))

    def _for_teacher(self, image: np.ndarray, epoch: int, index: int) -> Batch:
        if self.teacher_view == "same":
            return {}
        if self.teacher_view == "fixed":
            return {"teacher_image": evaluation_view(image, self.size, self.view.evaluation)}
        rng = generator(self.seed, epoch, index, 1)
        return {"teacher_image": training_view(image, self.size, self.view, rng, self.decoder)}


def _cutting(
    view: View, size: int, own: Filter, decoder: Decoder, out: np.ndarray | None = None
) -> Cut:
    # Not annotated: Python would make the annotation's union anew for each view.
    def cut(pixels, by):
        # Only the image itself is resized by the view's own filter.
        return cut_view(pixels, view, size, by or own, decoder, None if by else out)

    return cut


def _row(index: int, skipped: int = -1, *, is_image: bool = True) -> Batch:
    return {
        "index": np.int64(index),
        "mask": np.bool_(is_image),
        "skipped": np.int64(skipped),
    }


def _described(epoch: int, view: View) -> Batch:
    return {"epoch": np.int64(epoch), "box": np.array(view.box), "flip": view.flip}


def _labelled(example: Example) -> Example:
    """An example as metrics and losses expect it: without a label, it has the label −1."""
    return example if "label" in example else example | {"label": np.int32(-1)}


@dataclasses.dataclass(frozen=True)
class EvaluationViews:
    """One process's part of a split in order, padded with masked examples to whole batches."""

    source: Source
    view: ViewConfig
    size: int
    batch_size: int
    rows: Sequence[int]
    """Of each batch, those to read."""
    view_seed: int | None = None
    """Draws training views, the same each time and none of those a run with this seed trains on;
    None cuts evaluation views."""
    evaluation: EvaluationView | None = None
    """How these are cut; None is as `view` says."""
    altered: Altered | None = None
    """Makes of a view of an image, and its number, the view that is shown; picklable."""
    decoder: Decoder = "pillow"
    """What resizes training views; evaluation views are always Pillow's."""

    def __post_init__(self):
        check_spec(self.source.spec, self.source.class_names)

    @property
    def steps(self) -> int:
        """Number of batches."""
        return -(-len(self.source) // self.batch_size)

    def __len__(self) -> int:
        return self.steps * len(self.rows)

    def read(self, local: int, out: np.ndarray | None = None) -> Batch:
        """As `self[local]`; its view is a new array, whatever `out` is."""
        del out
        return self[local]

    def __getitem__(self, local: int) -> Batch:
        """The process's example `local`; `mask` is False for padding and corrupt images."""
        step, offset = divmod(int(local), len(self.rows))
        index = step * self.batch_size + self.rows[offset]
        seen, skipped, spec = None, -1, self.source.spec
        if index < len(self.source):
            try:
                example = read_example(self.source, index)
                cut = self._cut(example["image"], index)
                seen = see(example, spec, cut, self._drawing(index, _BESIDE))
            except CorruptImage:
                skipped = index
        if seen is not None and self.altered is not None:
            seen["image"] = self.altered(seen["image"], index)
        row = _row(index, skipped, is_image=seen is not None)
        return _labelled(missing(spec, self.size) if seen is None else seen) | row

    def _cut(self, image: np.ndarray, index: int) -> Cut:
        if drawing := self._drawing(index):
            height, width = image.shape[:2]
            view = draw_view(height, width, self.view, drawing(), self.decoder)
            return _cutting(view, self.size, self.view.evaluation.filter, self.decoder)
        own = self.evaluation or self.view.evaluation
        return lambda pixels, by: evaluation_view(
            pixels, self.size, dataclasses.replace(own, filter=by) if by else own
        )

    def _drawing(self, index: int, *view: int) -> Draw | None:
        if self.view_seed is None:
            return None
        return functools.partial(generator, self.view_seed, EVALUATION_EPOCH, index, *view)


def readable_views(source: Source, view: ViewConfig, size: int, *, most: int) -> Iterator[Batch]:
    """Evaluation examples of the first readable images, at most `most` of them."""
    views = EvaluationViews(source=source, view=view, size=size, batch_size=1, rows=range(1))
    readable = (e for e in (views[i] for i in range(len(source))) if e["mask"])
    return itertools.islice(readable, most)
