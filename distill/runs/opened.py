"""A trained or a published model, opened: one place for whoever uses one."""

from pathlib import Path
from typing import NamedTuple

from jax.sharding import Mesh

from distill.data.classes import Names
from distill.evaluation_view import EvaluationView
from distill.nn import Params, VisionNetwork
from distill.parallel import DEFAULT_RULES, RuleTable
from distill.runs.models import ModelConfig, checkpoint_step, load_model, recorded_view
from distill.runs.weights import WeightsConfig, load_weights
from distill.train.workdir import read_classes


class Opened(NamedTuple):
    """A model on a mesh, and what is known of it."""

    place: str
    """Its workdir, or the path of its weights."""
    network: VisionNetwork
    params: Params
    class_names: Names
    """In the order of the logits; empty where nothing says them."""
    view: EvaluationView
    """What of an image it is to be shown."""
    step: int | None
    """Of its checkpoint; None of published weights."""


def open_model(
    model: Path | WeightsConfig,
    mesh: Mesh,
    *,
    step: int | None = None,
    best: bool = False,
    dtype: str | None = None,
    rules: RuleTable = DEFAULT_RULES,
    expected: ModelConfig | None = None,
) -> Opened:
    """Opens the model of a run, or published weights.

    Args:
      model: a workdir, or where the weights are.
      mesh: whose devices read their parts of the parameters.
      step: of a run's checkpoint; see `load_model`, as for `best` and `expected`.
      best: whether to take a run's best weights.
      dtype: of parameters and activations; None keeps the model's own.
      rules: where the arrays live on the mesh.
      expected: what the caller believes a workdir holds.

    Raises:
      UserError: if it cannot be read, or is another model than expected.
    """
    if isinstance(model, WeightsConfig):
        loaded = load_weights(model, mesh, dtype=dtype, rules=rules)
        return Opened(model.path, *loaded, None)
    network, params = load_model(
        model, mesh, step=step, best=best, dtype=dtype, rules=rules, expected=expected
    )
    return Opened(
        str(model),
        network,
        params,
        read_classes(model),
        recorded_view(model),
        checkpoint_step(model, step, best=best),
    )
