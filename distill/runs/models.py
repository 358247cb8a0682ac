"""Models of runs: what a config says of one, and the one that a run trained."""

import contextlib
import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import jax

from distill.buckets import place_of
from distill.config import execution_keys, resolve
from distill.config.tagged import members
from distill.data import DataConfig
from distill.errors import UserError
from distill.evaluation_view import EvaluationView
from distill.nn import Network, Params, TextConfig, VisionNetwork, ViTConfig
from distill.nn.family import ModelConfig
from distill.optim import parameter_names
from distill.train import best as best_weights
from distill.train.checkpoints import Checkpoints
from distill.train.state import with_shardings
from distill.train.workdir import read_config


class _WithModel(Protocol):
    """A run's config, a dataclass, that says what one model is."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    @property
    def model(self) -> ModelConfig: ...


RunT = TypeVar("RunT", bound=_WithModel)


@functools.cache
def _execution() -> frozenset[str]:
    keys = (key for family in members(ModelConfig) for key in execution_keys(family))
    return frozenset(key.rpartition(".")[2] for key in keys)


def without_execution(model: Mapping[str, Any]) -> dict[str, Any]:
    """What a model is, of what was recorded of it: without how it is executed."""
    return {
        key: without_execution(value) if isinstance(value, Mapping) else value
        for key, value in model.items()
        if key not in _execution()
    }


def with_classes(config: RunT, count: int) -> RunT:
    """A run whose `model` has so many classes, unless it says how many it has."""
    return dataclasses.replace(config, model=config.model.with_classes(count))


def _tower_of(head: Mapping[str, Any]) -> str:
    """Where the model is that a head is on, for messages."""
    tower = head.get("tower") or {}
    where = tower.get("workdir") or (tower.get("weights") or {}).get("path")
    return f": {where}" if where else ""


def recorded_model(
    workdir: Path, *, dtype: str | None = None, expected: ModelConfig | None = None
) -> ModelConfig:
    """The model of a run, as its config describes it.

    Args:
      workdir: of the run.
      dtype: of activations; None keeps the run's.
      expected: what the caller believes is there; its architecture is compared, and it says how to
        execute the model; None executes it as its run did, but for the kernel.

    Raises:
      UserError: if there is no run, or another model than expected.
    """
    config = read_config(workdir)
    if "model" not in config:
        raise UserError(
            f"the run in {place_of(workdir)} made a head on another model's tokens, which is no "
            "model of whole images; `distill evaluate` and `distill export` take it, and for "
            f"anything else name the model that it is on{_tower_of(config)}"
        )
    recorded = resolve(ModelConfig, config["model"])
    if expected is not None:
        _compare(recorded, expected.with_classes(recorded.num_classes), workdir)
    # A kernel belongs to a machine, and the run may have had another.
    model = recorded.executed(attention="auto")
    if expected is not None:
        model = recorded.executed_as(expected)
    return model if dtype is None else model.executed(dtype=dtype)


def abstract_params(network: Network, dtype: str | None = None) -> Params:
    """Shapes, dtypes and places of a model's parameters before they are read.

    Args:
      network: placed on a mesh.
      dtype: of the parameters; None keeps their own.
    """
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype or leaf.dtype), network.abstract_params
    )
    return with_shardings(shapes, network.shardings)


def read_checkpoint(
    workdir: Path,
    network: Network,
    step: int,
    *,
    best: bool = False,
    dtype: str | None = None,
) -> Params:
    """The parameters that a checkpoint of a run holds.

    Args:
      workdir: of the run.
      network: the run's, placed on the mesh whose devices read their parts.
      step: of the checkpoint, as `checkpoint_step` finds it.
      best: whether it is one of the weights that did best.
      dtype: of the parameters; None keeps float32.
    """
    with _checkpoints(workdir, best) as checkpoints:
        return checkpoints.restore_params(abstract_params(network, dtype), step)


def checkpoint_step(workdir: Path, step: int | None = None, *, best: bool = False) -> int:
    """The step of the checkpoint that is read of a run.

    Args:
      workdir: of the run.
      step: of the checkpoint; None takes the last of a complete run, which no longer changes.
      best: whether to look for the weights that did best by the run's `train.keep_best` instead.

    Raises:
      UserError: if there is none, or none of this step; if the run is not complete and no step is
        given.
    """
    with _checkpoints(workdir, best) as checkpoints:
        saved = checkpoints.steps
    if best and not saved:
        raise UserError(
            f"no best weights in {place_of(workdir)}; a run keeps them if it is told by which "
            "metric, such as --config.train.keep_best=val/accuracy"
        )
    if not saved:
        raise UserError(f"no checkpoint in {place_of(workdir)}; train it first")
    if step is None and not (workdir / "summary.json").exists():
        raise UserError(
            f"the run in {place_of(workdir)} is not complete (its newest checkpoint is of step "
            f"{saved[-1]}). Run it to the end, or name a checkpoint by its step"
        )
    if step is not None and step not in saved:
        raise UserError(
            f"{place_of(workdir)} has no checkpoint of step {step}; it has "
            f"{', '.join(map(str, saved))}"
        )
    return saved[-1] if step is None else step


def _checkpoints(workdir: Path, best: bool) -> contextlib.closing[Checkpoints]:
    folder = best_weights.FOLDER if best else "checkpoints"
    return contextlib.closing(Checkpoints(workdir, read_only=True, folder=folder))


def recorded_view(workdir: Path) -> EvaluationView:
    """What of an image the model of a run is shown when it is evaluated and used."""
    return resolve(DataConfig, read_config(workdir)["data"]).view.evaluation


# Of what a model is: its names, its dtype, and how it began.
_NO_CHOICES = (
    *("family", "variant", "dtype", "classifier_bias"),
    *("initial_scale", "initial_bias", "locked"),
)


def architecture(model: ModelConfig | ViTConfig | TextConfig) -> dict[str, Any]:
    """A model's choices but for what it is called, how it is executed and how it began."""
    choices = {
        key: architecture(value) if isinstance(value, ViTConfig | TextConfig) else value
        for key, value in vars(model).items()
        if key not in _NO_CHOICES
    }
    return without_execution(choices)


def check_shapes(network: VisionNetwork, expected: ModelConfig, source: str) -> None:
    """Checks that published weights are of such a model, as far as names and shapes tell.

    Args:
      network: of the weights, which say the rest of it themselves.
      expected: what the caller believes is there.
      source: where they are.

    Raises:
      UserError: if they are not.
    """
    asked = expected.with_classes(network.config.num_classes).network()
    there, here = _shapes(network), _shapes(asked)
    if there != here:
        name = next(name for name in there | here if there.get(name) != here.get(name))
        raise UserError(
            f"the model in {source} is not the one config.teacher.model describes: {name} is "
            f"{there.get(name)}, expected {here.get(name)}"
        )


def _shapes(network: VisionNetwork) -> dict[str, tuple[int, ...]]:
    names = parameter_names(network.abstract_params)
    leaves = map(jax.tree.leaves, (names, network.abstract_params))
    return {name: leaf.shape for name, leaf in zip(*leaves, strict=True)}


def _compare(recorded: ModelConfig, expected: ModelConfig, workdir: Path) -> None:
    there, asked = (architecture(model) for model in (recorded, expected))
    differences = [
        f"{name} is {value!r}, expected {asked.get(name)!r}"
        for name, value in there.items()
        if value != asked.get(name)
    ]
    if differences:
        raise UserError(
            f"the model in {place_of(workdir)} is not the one config.teacher.model describes: "
            + "; ".join(differences)
        )
