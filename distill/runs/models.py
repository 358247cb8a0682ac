"""Models by name: what a config says of a model, and the network it stands for."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Literal, TypeVar

import jax
from jax.sharding import Mesh

from distill.config import resolve
from distill.data import DataConfig
from distill.errors import UserError
from distill.evaluation_view import EvaluationView
from distill.nn import Network, Params
from distill.parallel import DEFAULT_RULES, RuleTable
from distill.train import best as best_weights
from distill.train.checkpoints import Checkpoints
from distill.train.state import with_shardings
from distill.train.workdir import read_config
from students import vit
from teachers import vit_22b, vit_g

FAMILIES = {"vit": vit, "vit_g": vit_g, "vit_22b": vit_22b}

RunT = TypeVar("RunT")

# The fields of a model that say how it is executed rather than what it is, and their defaults.
EXECUTION = {
    "attention": "auto",
    "async_linear": None,
    "fused": None,
    "remat": "none",
    "remat_keep": (),
    "unroll": False,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A family, a variant, and whatever differs from the variant; None keeps the variant's own.

    Raises:
      ValueError: for an unknown variant, a choice the family does not have, or choices that
        contradict each other.
    """

    family: Literal["vit", "vit_g", "vit_22b"]
    """`students.vit`, `teachers.vit_g` or `teachers.vit_22b`."""
    variant: str
    """Shape and patch size, such as B/16."""
    image_size: int = 224
    channels: Literal[1, 3] = 3
    mean: tuple[float, ...] | None = None
    """Of pixel values in [0, 1], for all channels or each; with `std` it normalises images."""
    std: tuple[float, ...] | None = None
    num_classes: int | None = None
    """0 for a model without a classifier; None takes as many as the data has."""
    head: Literal["map", "gap", "cls"] | None = None
    width: int | None = None
    depth: int | None = None
    mlp_dim: int | None = None
    heads: int | None = None
    position_embedding: Literal["learned", "sincos2d"] | None = None
    qkv_bias: bool | None = None
    qk_norm: bool | None = None
    qk_norm_center: bool | None = None
    norm_bias: bool | None = None
    norm_center: bool | None = None
    parallel: bool | None = None
    """vit_22b only."""
    fused: bool | None = None
    """vit_22b only."""
    async_linear: bool | None = None
    """vit_22b only."""
    classifier_bias: float = 0.0
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Literal["none", "full", "dots", "offload"] = "none"
    remat_keep: tuple[Literal["query", "key", "value", "hidden"], ...] = ()
    unroll: bool = False
    attention: Literal["auto", "plain", "cudnn", "splash"] = "auto"
    """The kernel; see `distill.nn.kernels`."""

    def __post_init__(self):
        # However many classes the data has.
        _build(self if self.num_classes is not None else dataclasses.replace(self, num_classes=1))

    def network(self) -> Network:
        """The network; no memory is allocated.

        Raises:
          UserError: if it is for the data to say how many classes it has.
        """
        if self.num_classes is None:
            raise UserError(
                "the model has as many classes as the data, and none is read here; say how many: "
                "--config.model.num_classes=N"
            )
        return _build(self)

    def with_classes(self, count: int) -> "ModelConfig":
        """The model with so many classes, unless it says how many it has."""
        if self.num_classes is not None:
            return self
        return dataclasses.replace(self, num_classes=count)


def with_classes(config: RunT, count: int) -> RunT:
    """A run whose `model` has so many classes, unless it says how many it has."""
    return dataclasses.replace(config, model=config.model.with_classes(count))


def _build(config: ModelConfig) -> Network:
    module = FAMILIES[config.family]
    choices = {k: v for k, v in dataclasses.asdict(config).items() if v is not None}
    family, variant = choices.pop("family"), choices.pop("variant")
    foreign = {"parallel", "fused", "async_linear"} & choices.keys()
    if foreign and family != "vit_22b":
        raise ValueError(f"{', '.join(sorted(foreign))} belong to vit_22b, not to {family}")
    return module.build(module.configure(variant, **choices))


def load_model(
    workdir: Path,
    mesh: Mesh,
    *,
    step: int | None = None,
    best: bool = False,
    dtype: str | None = None,
    rules: RuleTable = DEFAULT_RULES,
    expected: ModelConfig | None = None,
) -> tuple[Network, Params]:
    """The model a run trained: its network and the parameters of one of its checkpoints.

    Args:
      workdir: of a pre-training or distillation run.
      mesh: whose devices read their parts of the parameters.
      step: of the checkpoint; None takes the last of a complete run, which no longer changes.
      best: whether to read the weights that did best by the run's `train.keep_best` instead.
      dtype: of parameters and activations; None keeps float32 parameters and the run's
        activations.
      rules: where the arrays live on the mesh.
      expected: what the caller believes is there; its architecture is compared, and it says how to
        execute the model (`EXECUTION`); None executes it as its run did, but for the kernel.

    Raises:
      UserError: if there is no run, no such checkpoint, or another model than expected; if the run
        is not complete and no step is given.
    """
    recorded = resolve(ModelConfig, read_config(workdir)["model"])
    if expected is not None:
        _compare(recorded, expected.with_classes(recorded.num_classes), workdir)
    # A kernel belongs to a machine, and the run may have had another.
    execution = {"attention": "auto"}
    if expected is not None:
        execution = {key: getattr(expected, key) for key in EXECUTION}
    recorded = dataclasses.replace(recorded, **execution)
    if dtype is not None:
        recorded = dataclasses.replace(recorded, dtype=dtype)
    network = recorded.network().placed(mesh, rules)
    abstract = with_shardings(
        jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype or leaf.dtype),
            network.abstract_params,
        ),
        network.shardings,
    )
    folder = best_weights.FOLDER if best else "checkpoints"
    with contextlib.closing(Checkpoints(workdir, read_only=True, folder=folder)) as checkpoints:
        saved = checkpoints.steps
        if best and not saved:
            raise UserError(
                f"no best weights in {workdir}; a run keeps them if it is told by which metric, "
                "such as --config.train.keep_best=val/accuracy"
            )
        if not saved:
            raise UserError(f"no checkpoint in {workdir}; train it first")
        if step is None and not (workdir / "summary.json").exists():
            raise UserError(
                f"the run in {workdir} is not complete (its newest checkpoint is of step "
                f"{saved[-1]}). Run it to the end, or name a checkpoint by its step"
            )
        if step is not None and step not in saved:
            raise UserError(
                f"{workdir} has no checkpoint of step {step}; it has {', '.join(map(str, saved))}"
            )
        return network, checkpoints.restore_params(abstract, saved[-1] if step is None else step)


def recorded_view(workdir: Path) -> EvaluationView:
    """What of an image the model of a run is shown when it is evaluated and used."""
    return resolve(DataConfig, read_config(workdir)["data"]).view.evaluation


def _compare(recorded: ModelConfig, expected: ModelConfig, workdir: Path) -> None:
    how_it_runs = EXECUTION | {"dtype": "float32", "classifier_bias": 0.0}
    there = dataclasses.replace(recorded, **how_it_runs).network().config
    asked = dataclasses.replace(expected, **how_it_runs).network().config
    differences = [
        f"{field.name} is {getattr(there, field.name)!r}, expected {getattr(asked, field.name)!r}"
        for field in dataclasses.fields(there)
        if getattr(there, field.name) != getattr(asked, field.name, None)
    ]
    if differences:
        raise UserError(
            f"the model in {workdir} is not the one config.teacher.model describes: "
            + "; ".join(differences)
        )
