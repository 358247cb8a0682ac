"""Which classes are taken for which, and what follows: accuracy and overlap, class by class."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from distill.metrics.metric import Additive, Sums


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ConfusionMatrix(Additive):
    """How often each class is taken for each, over images or their pixels."""

    count: Sums
    """Images of which anything counts."""
    matrix: Sums
    """Of what is labelled with the row's class, how much is predicted to be the column's,
    int [C, C]."""
    class_names: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    requires: str = dataclasses.field(default="", metadata={"static": True})

    @classmethod
    def of(
        cls,
        predictions: jax.Array,
        labels: jax.Array,
        where: jax.Array,
        class_names: Sequence[str],
        requires: str = "",
    ) -> Self:
        """Measures a batch, of less than 2³¹ predictions.

        Args:
          predictions: int [B, …] in [0, C): the class of an image, or of each pixel.
          labels: int [B, …]; what has none of the C classes, such as −1, is left out.
          where: bool [B, …], what counts.
          class_names: of the C classes, in the order of their numbers.
          requires: what an image that does not count lacks.
        """
        classes = len(class_names)
        where = where & (labels >= 0) & (labels < classes)
        # What is left out falls into a cell behind the matrix.
        cells = jnp.where(where, labels * classes + predictions, classes**2)
        counts = jnp.zeros(classes**2 + 1, jnp.int32).at[cells.reshape(-1)].add(1)
        images = jnp.any(where.reshape(where.shape[0], -1), axis=1)
        return cls(
            jnp.sum(images, dtype=jnp.int32),
            counts[:-1].reshape(classes, classes),
            tuple(class_names),
            requires,
        )

    def value(self) -> dict[str, float | None]:
        """`accuracy/CLASS` of each class, `mean_accuracy` and `mean_iou`.

        A class's accuracy is the share of what is labelled with it that is predicted to be it; its
        intersection over union (Jaccard index) is what is both labelled and predicted over what is
        either. Means are over the classes of which there is something: a label, and for the union
        a label or a prediction. None of what there is nothing of.
        """
        right = np.diagonal(self.matrix)
        labelled, predicted = self.matrix.sum(axis=1), self.matrix.sum(axis=0)
        accuracy = _shares(right, labelled)
        iou = _shares(right, labelled + predicted - right)
        means = {"mean_accuracy": _mean(accuracy), "mean_iou": _mean(iou)}
        names = (f"accuracy/{name}" for name in _distinct(self.class_names))
        return means | dict(zip(names, accuracy, strict=True))


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, of those that are there more than once with the class's number."""
    times = Counter(names)
    return [f"{name}-{n}" if times[name] > 1 else name for n, name in enumerate(names)]


def _shares(parts: np.ndarray, wholes: Sums) -> list[float | None]:
    pairs = zip(parts.tolist(), wholes.tolist(), strict=True)
    return [part / whole if whole else None for part, whole in pairs]


def _mean(values: list[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None
