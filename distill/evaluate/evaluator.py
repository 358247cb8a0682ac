"""Averages per-example metrics over a split."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

PerExample = Callable[[Any, Any, dict[str, jax.Array]], dict[str, jax.Array]]


class Evaluator:
    """The mean of each per-example metric over the examples that count.

    Args:
      name: prefix of the metrics, such as `val`.
      batches: goes over the split each time it is iterated.
      per_example: maps (params, frozen, batch) to metrics, each [B].
    """

    def __init__(self, name: str, batches: Iterable, per_example: PerExample):
        self.name = name
        self._batches = batches

        @jax.jit
        def accumulate(totals, params, frozen, batch):
            mask = batch["mask"].astype(jnp.float32)
            metrics = per_example(params, frozen, batch) | {"examples": jnp.ones_like(mask)}
            sums = {k: jnp.sum(v.astype(jnp.float32) * mask) for k, v in metrics.items()}
            return sums if totals is None else jax.tree.map(jnp.add, totals, sums)

        self._accumulate = accumulate

    def __call__(self, params: Any, frozen: Any = None) -> dict[str, float]:
        """The metrics as `name/metric`; nothing is fetched before the last batch."""
        totals = None
        for batch in self._batches:
            totals = self._accumulate(totals, params, frozen, batch)
        totals = {k: float(v) for k, v in jax.device_get(totals).items()}
        examples = totals.pop("examples")
        return {f"{self.name}/{k}": v / max(examples, 1.0) for k, v in totals.items()}
