"""What is evaluated: a model, and what of the run or the files it comes from says how."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from distill.evaluation_view import EvaluationView
from distill.metrics.metric import Metric
from distill.nn import VisionNetwork, ViTOutput

if TYPE_CHECKING:
    # Tasks stand on this module, and need nothing that loads data.
    from distill.data import DataConfig, Source, Splits
    from distill.data.tokens import Tokenizer

PerExample = Callable[[Any, Any, dict[str, Any]], dict[str, Metric]]
"""Maps (params, frozen, batch) to a batch's metrics by name; it is compiled."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """A model to evaluate and what goes with it, but for its parameters.

    Those are given to each evaluation when it is called, as they change while a model is trained.
    """

    place: str
    """Its workdir, or the path of its weights."""
    network: VisionNetwork
    """Placed on the mesh."""
    class_names: tuple[str, ...]
    """In the order of the logits; empty where nothing says them."""
    view: EvaluationView
    """What of an image it is to be shown."""
    data: "DataConfig"
    """The run's; of published weights, that of images they are shown."""
    split: str | None
    """Evaluated where nothing says which: of a run that trains its validation split, of a finished
    one its test split."""
    opened: "Splits | None" = None
    """The run's images, where they are open, numbered as the model's classes are."""
    metrics: "Callable[[Source], PerExample]"
    """What is measured of images, numbered as the model's classes are; the same object for all
    whose classes are the same, so that it is compiled once."""
    view_metrics: "Callable[[Source], PerExample] | None" = None
    """The same of training views; None where there is nothing to measure of them."""
    view_size: int
    """Side in pixels of the views that `metrics` sees."""
    batch_size: int
    """Over all devices."""
    seed: int = 0
    """Of the run."""
    tokenizer: "Tokenizer | None" = None
    """Of a pair: makes of texts what its text tower takes."""

    @property
    def mesh(self) -> Mesh:
        """Where it is."""
        return self.network.mesh


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
