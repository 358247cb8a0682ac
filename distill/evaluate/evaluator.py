"""Averages per-example metrics over a split."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from distill.evaluate.classification import REDUCTIONS
from distill.evaluate.similarity import (
    FeaturePair,
    Moments,
    linear_cka,
    merge_moments,
    pair_moments,
)
from distill.parallel import replicated

PerExample = Callable[[Any, Any, dict[str, jax.Array]], dict[str, jax.Array | FeaturePair]]
_Sums = dict[str, jax.Array | Moments]


class Evaluator:
    """The mean of each per-example metric over the examples that count.

    Args:
      name: prefix of the metrics, such as `val`.
      batches: goes over the split each time it is iterated.
      per_example: maps (params, frozen, batch) to metrics, each [B], or [B, K] for those in
        `REDUCTIONS`, or a `FeaturePair`, whose value is the linear CKA over all examples.
    """

    def __init__(self, name: str, batches: Iterable, per_example: PerExample):
        self.name = name
        self._batches = batches
        self._sums = _summed(per_example)

    def __call__(self, params: Any, frozen: Any = None) -> dict[str, float]:
        """The metrics as `name/metric`; nothing is fetched before the last batch."""
        totals = None
        for batch in self._batches:
            sums = self._sums(params, frozen, batch)
            totals = sums if totals is None else _add(totals, sums)
        totals = jax.device_get(jax.tree.map(_whole, totals))
        examples = max(np.float64(totals.pop("examples")), 1.0)
        return {f"{self.name}/{k}": _reduce(k, v, examples) for k, v in totals.items()}


@functools.cache
def _summed(per_example: PerExample) -> Callable[[Any, Any, dict[str, jax.Array]], _Sums]:
    """Sums over the examples that count; compiled once for all splits."""

    @jax.jit
    def sums(params, frozen, batch):
        mask = batch["mask"].astype(jnp.float32)

        def total(metric):
            if isinstance(metric, FeaturePair):
                return pair_moments(metric, mask)
            return jnp.sum((metric.astype(jnp.float32).T * mask).T, axis=0)

        metrics = per_example(params, frozen, batch) | {"examples": jnp.ones_like(mask)}
        return {k: total(v) for k, v in metrics.items()}

    return sums


def _add(totals: _Sums, sums: _Sums) -> _Sums:
    def add(one, other):
        return merge_moments(one, other) if isinstance(one, Moments) else jnp.add(one, other)

    return jax.tree.map(add, totals, sums, is_leaf=lambda node: isinstance(node, Moments))


def _whole(leaf: jax.Array) -> jax.Array:
    """The array on every device: a process cannot fetch what others hold parts of."""
    if leaf.sharding.is_fully_replicated:
        return leaf
    return jax.jit(lambda x: x, out_shardings=replicated(leaf.sharding.mesh))(leaf)


def _reduce(name: str, total: np.ndarray | Moments, examples: float) -> float:
    if isinstance(total, Moments):
        return linear_cka(total)
    return REDUCTIONS.get(name, float)(np.asarray(total, np.float64) / examples)
