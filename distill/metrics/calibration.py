"""Whether a model is as sure as it is right."""

import dataclasses
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from distill.metrics.metric import Additive, Sums

BINS = 15

_INNER_EDGES = (np.arange(1, BINS) / BINS).astype(np.float32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CalibrationError(Additive):
    """The expected calibration error (arXiv 1706.04599, §2) over 15 bins of equal width.

    Predictions are sorted by their confidence, the top softmax probability. The differences
    between each bin's accuracy and its mean confidence are averaged, weighted by the bins' sizes.
    """

    count: Sums
    correct: Sums
    """Right predictions in each bin, int [15]."""
    confidence: Sums
    """Σ of the confidences in each bin, [15]."""
    requires: str = dataclasses.field(default="", metadata={"static": True})

    @classmethod
    def of(
        cls, confidence: jax.Array, correct: jax.Array, where: jax.Array, requires: str = ""
    ) -> Self:
        """Measures a batch.

        Args:
          confidence: [B] float32.
          correct: bool [B], whether the prediction is right.
          where: bool [B], whether an example counts.
          requires: what an example that does not count lacks.
        """
        inside = where[:, None] & (bin_of(confidence)[:, None] == jnp.arange(BINS))
        return cls(
            jnp.sum(where, dtype=jnp.int32),
            jnp.sum(inside & correct[:, None], axis=0, dtype=jnp.int32),
            jnp.sum(jnp.where(inside, confidence[:, None], 0.0), axis=0),
            requires,
        )

    def value(self) -> float | None:
        """In [0, 1]; None of no examples."""
        if not self.count:
            return None
        return float(np.sum(np.abs(self.correct - self.confidence)) / self.count)


def bin_of(confidence: jax.Array) -> jax.Array:
    """The bin, counted from 0, of each confidence, int32 [B].

    Bin m of M, counted from 1, holds confidences in ((m − 1)/M, m/M], and the first also 0. Edges
    are rounded to float32 as confidences are: one that is an edge before rounding is one after it,
    and one that is within half a unit in the last place above an edge counts as on it.

    Args:
      confidence: [B] float32 in [0, 1].
    """
    return jnp.sum(confidence[:, None] > _INNER_EDGES, axis=-1, dtype=jnp.int32)
