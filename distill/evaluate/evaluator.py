"""Measures a model over a split."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from distill.errors import RunFailed
from distill.evaluate.notes import Notes
from distill.metrics.metric import Metric
from distill.parallel import in_flight
from distill.parallel.compiling import jit_replicated
from distill.subject import PerExample

if TYPE_CHECKING:
    from distill.data import Source

# The most figures of one metric that a message names.
_LISTED = 10

Batch = dict[str, jax.Array]


class Batches(Protocol):
    """Goes over a split each time it is iterated, such as an `EvalLoader`."""

    @property
    def source(self) -> "Source":
        """Names images."""
        ...

    def __iter__(self) -> Iterator[Batch]:
        """From the first batch."""
        ...


class Evaluator:
    """A model's metrics over all images of a split.

    Args:
      name: prefix of the metrics, such as `val`.
      batches: goes over the split.
      per_example: measures a batch of which only images with a `mask` of True count.
    """

    def __init__(self, name: str, batches: Batches, per_example: PerExample):
        self.name = name
        self.counted = 0
        """Images that the last call has seen; others cannot be decoded."""
        self.counts: dict[str, int] = {}
        """Those that each metric is of, as `name/metric`."""
        self.values: dict[str, float] = {}
        """What the last call returned."""
        self.missing: frozenset[str] = frozenset()
        """Figures of which the last call could say nothing, as `name/metric`."""
        self._batches = batches
        self._per_example = per_example
        self._notes = Notes()

    def __call__(self, params: Any, frozen: Any = None) -> dict[str, float]:
        """The metrics as `name/metric`; all processes must call it, and all get the same.

        Metrics of which nothing can be said, such as a mean over no images, are left out. That,
        and images that are left out of some metrics, is said once.

        Raises:
          RunFailed: if what is measured of an image is not finite.
        """
        counted = 0
        metrics: dict[str, Metric] = {}
        for batch, (count, sums) in in_flight(
            (batch, self._measure(params, frozen, batch)) for batch in self._batches
        ):
            count, sums = jax.tree.map(_exact, jax.device_get((count, sums)))
            if broken := [name for name, found in sums.items() if not _is_finite(found)]:
                self._refuse(broken, params, frozen, batch)
            counted += int(count)
            metrics = _merge(metrics, sums) if metrics else sums
        figures = {name: self._figures(name, metric) for name, metric in metrics.items()}
        self.counted = counted
        self.counts = {self._full(name): int(metric.count) for name, metric in metrics.items()}
        self._tell(metrics, figures)
        values = {name: value for found in figures.values() for name, value in found.items()}
        self.missing = frozenset(name for name, value in values.items() if value is None)
        self.values = {name: value for name, value in values.items() if value is not None}
        return self.values

    def metrics(self, params: Any, frozen: Any = None) -> frozenset[str] | None:
        """What a call may find, as `name/metric`: nothing is computed, and one batch is read.

        Args:
          params: of the model, or their shapes.
          frozen: likewise.

        Returns:
          The names; None if there is no batch that says them.
        """
        batches = iter(self._batches)
        try:
            batch = next(batches, None)
        finally:
            if (close := getattr(batches, "close", None)) is not None:
                close()
        if batch is None:
            return None
        batch = batch | {"mask": batch["mask"].astype(bool)}
        shapes = jax.eval_shape(self._per_example, params, frozen, batch)
        nothing = jax.tree.map(lambda one: np.zeros(one.shape, one.dtype)[()], shapes)
        found = [self._figures(name, metric) for name, metric in nothing.items()]
        return frozenset(name for figures in found for name in figures)

    def _measure(self, params: Any, frozen: Any, batch: Batch) -> tuple[jax.Array, dict]:
        return _compiled(self._per_example, _mesh_of(batch))(params, frozen, batch)

    def _full(self, name: str) -> str:
        return f"{self.name}/{name}"

    def _figures(self, name: str, metric: Metric) -> dict[str, float | None]:
        """What a metric says, as `name/metric` or `name/metric/what`."""
        value = metric.value()
        if not isinstance(value, Mapping):
            return {self._full(name): value}
        return {self._full(f"{name}/{what}"): one for what, one in value.items()}

    def _tell(
        self, metrics: Mapping[str, Metric], figures: Mapping[str, Mapping[str, float | None]]
    ) -> None:
        """Says of which metrics there is nothing to say, and which leave images out."""
        groups: dict[tuple[bool, int, str], list[str]] = {}
        for name, metric in metrics.items():
            unknown = [figure for figure, value in figures[name].items() if value is None]
            missing = len(unknown) == len(figures[name])
            if unknown and not missing:
                listed = ", ".join(unknown[:_LISTED]) + ", …" * (len(unknown) > _LISTED)
                self._notes.say(f"{listed} missing: the images of {self.name} show nothing of it")
            if missing or metric.count < self.counted:
                requires = metric.requires if self.counted else ""
                key = missing, int(metric.count), requires
                groups.setdefault(key, []).append(self._full(name))
        for (missing, count, requires), names in groups.items():
            listed, images = ", ".join(names), f"{self.counted:,} images"
            if not self.counted:
                self._notes.say(f"{listed} missing: no image of {self.name} can be decoded")
            elif missing:
                self._notes.say(f"{listed} missing: none of {images} has {requires}")
            else:
                without = f"{self.counted - count:,} of {images} of {self.name} lack {requires}"
                self._notes.say(f"{without}: left out of {listed}")

    def _refuse(self, broken: list[str], params: Any, frozen: Any, batch: Batch) -> None:
        """Raises an error that names the first image of which a metric is not finite."""

        def is_sound(rows: int) -> bool:
            mask = _first_rows(batch["mask"], np.int32(rows))
            _, found = jax.device_get(self._measure(params, frozen, batch | {"mask": mask}))
            return all(map(_is_finite, found.values()))

        sound, unsound = 0, batch["mask"].shape[0]
        while unsound - sound > 1:
            middle = (sound + unsound) // 2
            sound, unsound = (middle, unsound) if is_sound(middle) else (sound, middle)
        index = _whole(batch["index"], _mesh_of(batch))[sound]
        raise RunFailed(
            f"{', '.join(map(self._full, broken))} of {self._batches.source.describe(int(index))} "
            "is not finite: the model puts out what is not a number, or too large a one. Check the "
            "model's parameters, and its dtype"
        )


def _merge(one: dict[str, Metric], other: dict[str, Metric]) -> dict[str, Metric]:
    return {name: metric.merge(other[name]) for name, metric in one.items()}


def _exact(leaf: np.ndarray) -> np.ndarray:
    """As float64 or int64, in which sums over a split lose nothing that matters."""
    leaf = np.asarray(leaf)
    return leaf.astype(np.int64 if np.issubdtype(leaf.dtype, np.integer) else np.float64)[()]


def _is_finite(metric: Metric) -> bool:
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(metric))


def _mesh_of(batch: Batch) -> Mesh | None:
    """Over which a batch is cut; None of arrays that are on no mesh."""
    return getattr(getattr(batch["mask"], "sharding", None), "mesh", None)


@functools.cache
def _compiled(per_example: PerExample, mesh: Mesh | None) -> Callable:
    """The number of images that count and a batch's metrics; compiled once for all splits."""

    @functools.partial(jit_replicated, mesh=mesh)
    def measure(params, frozen, batch):
        mask = batch["mask"].astype(bool)
        return jnp.sum(mask, dtype=jnp.int32), per_example(params, frozen, batch | {"mask": mask})

    return measure


@jax.jit
def _first_rows(mask: jax.Array, rows: jax.Array) -> jax.Array:
    return mask & (jnp.arange(mask.shape[0]) < rows)


def _whole(array: jax.Array, mesh: Mesh | None) -> np.ndarray:
    return jax.device_get(jit_replicated(lambda x: x, mesh)(array))
