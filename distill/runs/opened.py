"""A trained or a published model, described or opened: one place for whoever uses one."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

from jax.sharding import Mesh

from distill.buckets import local, place_of
from distill.data.classes import Names
from distill.evaluation_view import EvaluationView
from distill.nn import Params, VisionNetwork
from distill.nn.family import ModelConfig
from distill.parallel import DEFAULT_RULES, RuleTable
from distill.paths import WorkdirPath
from distill.runs.models import checkpoint_step, read_checkpoint, recorded_model, recorded_view
from distill.runs.weights import AnyPublished, WeightsConfig, place_published
from distill.train.workdir import read_classes
from teachers.pretrained import PublishedPair


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Where a config finds a model: in the workdir of a run, or in published weights.

    Raises:
      ValueError: unless it is in one of them.
    """

    workdir: WorkdirPath | None = None
    """Of the run that trained the model."""
    weights: WeightsConfig | None = None
    """Published weights, in place of `workdir`."""
    step: int | None = None
    """Of the run's checkpoint; None takes the last of a run that is complete, which pins it."""

    def __post_init__(self):
        if (self.workdir is None) == (self.weights is None):
            raise ValueError(
                "give workdir, of the run that trained the model, or weights.path, of published "
                "weights; none takes away the one that a config file gives"
            )
        if self.weights is not None and self.step is not None:
            raise ValueError("step is of a checkpoint in a workdir; published weights are one set")

    @property
    def source(self) -> str:
        """Where the model is: the workdir or the path of its weights."""
        if self.weights is not None:
            return self.weights.path
        # One of both is given.
        assert self.workdir is not None
        return self.workdir

    @property
    def place(self) -> Path | WeightsConfig:
        """The same, as `describe_model` and `open_model` take it."""
        if self.weights is not None:
            return self.weights
        return local(self.source)


class Described(NamedTuple):
    """What is known of a model before its parameters are read."""

    network: VisionNetwork
    """Not placed on a mesh."""
    class_names: Names
    """In the order of the logits; empty where nothing says them."""
    view: EvaluationView
    """What of an image it is to be shown."""
    published: AnyPublished | None
    """What its files say; None of the model of a run."""


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
    published: AnyPublished | None = None
    """What its files say; None of the model of a run."""


def describe_model(
    model: Path | WeightsConfig,
    *,
    dtype: str | None = None,
    expected: ModelConfig | None = None,
) -> Described:
    """What a run recorded, or files of published weights say, of a model; no parameter is read.

    Args:
      model: a workdir, whose run may only have begun, or where the weights are.
      dtype: of activations; None keeps the model's own.
      expected: what the caller believes a workdir holds; see `recorded_model`.

    Raises:
      UserError: if it cannot be read, or is another model than expected.
    """
    if isinstance(model, WeightsConfig):
        published = model.open(dtype)
        names = () if isinstance(published, PublishedPair) else published.class_names
        return Described(published.network, names, published.view, published)
    network = recorded_model(model, dtype=dtype, expected=expected).network()
    return Described(network, read_classes(model), recorded_view(model), None)


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
      step: of a run's checkpoint; None takes the last of a complete run, which no longer changes.
      best: whether to take the weights that did best by a run's `train.keep_best`.
      dtype: of parameters and activations; None keeps float32 parameters and the model's own
        activations.
      rules: where the arrays live on the mesh.
      expected: what the caller believes a workdir holds; see `recorded_model`.

    Raises:
      UserError: if it cannot be read, is another model than expected, or has no such checkpoint; if
        the run is not complete and no step is given.
    """
    found = describe_model(model, dtype=dtype, expected=expected)
    network = found.network.placed(mesh, rules)
    if isinstance(model, Path):
        place, step = place_of(model), checkpoint_step(model, step, best=best)
        params = read_checkpoint(model, network, step, best=best, dtype=dtype)
    else:
        assert found.published is not None
        place, params = model.path, place_published(found.published, network, dtype)
    return Opened(place, network, params, found.class_names, found.view, step, found.published)
