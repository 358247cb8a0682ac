"""A model that is looked at, and the teachers it is compared with."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from distill.evaluation_view import EvaluationView
from distill.nn import VisionNetwork, ViTOutput


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A network to learn from, and how much it counts among several."""

    network: VisionNetwork
    weight: float = 1.0
    class_names: tuple[str, ...] = ()
    """In the order of its logits; empty where nothing says them."""
    order: tuple[int, ...] | None = None
    """Which of its logits are the student's classes, in the student's order; None where all are, in
    theirs; empty where it has other classes, which are not compared."""
    view: EvaluationView = EvaluationView()
    """What of an image it is to be shown."""

    @property
    def classes(self) -> int:
        """How many of its logits can be compared with a student's."""
        return self.network.config.num_classes if self.order is None else len(self.order)

    def logits(self, output: ViTOutput) -> jax.Array:
        """Of the student's classes, in the student's order, [B, classes]."""
        return output.logits if self.order is None else output.logits[:, np.array(self.order)]


def combine(
    logits: Mapping[str, jax.Array], teachers: Mapping[str, Teacher], temperature: float = 1.0
) -> jax.Array:
    """Logits, [B, C], of the average of several teachers' probabilities at a temperature.

    Args:
      logits: of each teacher; a single entry is returned as it is.
      teachers: their weights.
      temperature: T of softmax(z/T), whose weighted mean is softmax(result/T).
    """
    if len(logits) == 1:
        return next(iter(logits.values()))
    weights = jnp.array([teachers[name].weight for name in logits], jnp.float32)
    stacked = jax.nn.log_softmax(jnp.stack(list(logits.values())) / temperature)
    shares = jnp.log(weights / jnp.sum(weights))[:, None, None]
    return temperature * jax.nn.logsumexp(stacked + shares, axis=0)


def comparable(student: VisionNetwork, teachers: Mapping[str, Teacher]) -> bool:
    """Whether student and teachers have as many classes, and so logits to compare."""
    classes = {teacher.classes for teacher in teachers.values()}
    return bool(classes) and classes == {student.config.num_classes} - {0}
