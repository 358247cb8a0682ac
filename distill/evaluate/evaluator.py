"""Averages per-example metrics over a split."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from distill.evaluate.classification import REDUCTIONS

PerExample = Callable[[Any, Any, dict[str, jax.Array]], dict[str, jax.Array]]


class Evaluator:
    """The mean of each per-example metric over the examples that count.

    Args:
      name: prefix of the metrics, such as `val`.
      batches: goes over the split each time it is iterated.
      per_example: maps (params, frozen, batch) to metrics, each [B], or [B, K] for those in
        `REDUCTIONS`.
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
            totals = sums if totals is None else jax.tree.map(jnp.add, totals, sums)
        totals = jax.device_get(totals)
        examples = max(totals.pop("examples"), 1.0)
        return {
            f"{self.name}/{k}": REDUCTIONS.get(k, float)(v / examples) for k, v in totals.items()
        }


@functools.cache
def _summed(per_example: PerExample) -> PerExample:
    """Sums over the examples that count; compiled once for all splits."""

    @jax.jit
    def sums(params, frozen, batch):
        mask = batch["mask"].astype(jnp.float32)
        metrics = per_example(params, frozen, batch) | {"examples": jnp.ones_like(mask)}
        return {k: jnp.sum((v.astype(jnp.float32).T * mask).T, axis=0) for k, v in metrics.items()}

    return sums
