"""What is evaluated: a model, and what of the run or the files it comes from says how."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jax.sharding import Mesh

from distill.evaluation_view import EvaluationView
from distill.metrics.metric import Metric
from distill.nn import Network

if TYPE_CHECKING:
    # Tasks stand on this module, and need nothing that loads data.
    from distill.data import DataConfig, Source, Splits

PerExample = Callable[[Any, Any, dict[str, Any]], dict[str, Metric]]
"""Maps (params, frozen, batch) to a batch's metrics by name; it is compiled."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """A model to evaluate and what goes with it, but for its parameters.

    Those are given to each evaluation when it is called, as they change while a model is trained.
    """

    place: str
    """Its workdir, or the path of its weights."""
    network: Network
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

    @property
    def mesh(self) -> Mesh:
        """Where it is."""
        return self.network.placement.mesh
