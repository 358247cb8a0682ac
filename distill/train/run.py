"""What all training runs have in common, and what can be checked before one begins."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import TypeVar

import optax
from jax.sharding import Mesh

from distill.bounds import Seed, check_fields
from distill.config import ConfigError, how_it_runs
from distill.data import DataConfig, Splits
from distill.evaluate.evaluation import EvaluationConfig
from distill.evaluate.split import SplitConfig
from distill.evaluate.transfer import SHORT_FORM, TransferConfig
from distill.evaluation_view import EvaluationView
from distill.nn import Network, Params
from distill.optim import (
    Multiplier,
    OptimizerConfig,
    RunLength,
    ScheduleConfig,
    make_optimizer,
    make_schedule,
    trained_params,
)
from distill.parallel import MeshConfig, batch_devices, distributed, make_mesh
from distill.paths import LocalPath
from distill.train.branch import check_branch
from distill.train.config import TrainConfig

Run = TypeVar("Run", bound="RunConfig")

# What the metrics of training and of the run's end begin with.
_TAKEN = {"train", "test"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What all training pipelines have in common."""

    seed: Seed = 0
    """Of initial parameters, order, views and mixup: with the config it determines the run."""
    data: DataConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    train: TrainConfig
    mesh: MeshConfig = how_it_runs(MeshConfig())
    evals: dict[str, EvaluationConfig] = how_it_runs(factory=lambda: {"val": SplitConfig()})
    """Evaluations while training, by the name that their metrics begin with."""
    transfer: TransferConfig | None = how_it_runs(None)
    """Short for evals.transfer, of frozen features; None skips it."""
    branch_from: LocalPath | None = None
    """WORKDIR@STEP of the run whose state and data this one goes on with; see
    `distill.train.branch`. Set by --branch_from."""

    def __post_init__(self):
        check_fields(self)
        if self.transfer is not None and SHORT_FORM in self.evals:
            raise ValueError("transfer is short for evals.transfer; give one of them")
        if taken := _TAKEN & self.evals.keys():
            raise ValueError(f"evals.{min(taken)} is what other metrics begin with; rename it")

    @property
    def evaluations(self) -> dict[str, EvaluationConfig]:
        """All that are asked for, by name."""
        return self.evals | ({SHORT_FORM: self.transfer} if self.transfer else {})

    def completed(self: Run, view: EvaluationView | None = None) -> Run:
        """With what `view` says where the config does not say how images are shown."""
        data = dataclasses.replace(
            self.data, view=self.data.view.completed(view or EvaluationView())
        )
        return dataclasses.replace(self, data=data)


@contextlib.contextmanager
def blame(section: str) -> Iterator[None]:
    """Reports a `ValueError` as a problem in a section of the config."""
    try:
        yield
    except ValueError as error:
        raise ConfigError([f"{section}: {error}"]) from error


def open_mesh(config: RunConfig) -> Mesh:
    """The mesh of a run, over which its batches divide evenly.

    Raises:
      ConfigError: if mesh and devices, or batch and mesh, do not fit.
      UserError: in a worker of a TPU slice that has not been joined with the others.
    """
    distributed.check_joined()
    with blame("config.mesh"):
        mesh = make_mesh(config.mesh)
    check_batch(config, mesh)
    return mesh


def check_batch(config: RunConfig, mesh: Mesh) -> None:
    """Checks that batches divide evenly over the mesh.

    Raises:
      ConfigError: if they do not.
    """
    parts = batch_devices(mesh) * config.train.microbatches
    batch = config.train.batch_size
    if batch % parts:
        microbatches = config.train.microbatches
        in_parts = f" in {microbatches} microbatches" if microbatches > 1 else ""
        near = sorted({max(parts, batch // parts * parts), (batch // parts + 1) * parts})
        raise ConfigError(
            [
                f"config.train.batch_size is {batch}, which {batch_devices(mesh)} devices (data × "
                f"fsdp){in_parts} cannot share evenly; use {' or '.join(map(str, near))}"
            ]
        )


def _smaller_batch(config: RunConfig, network: Network, images: int) -> str:
    """What to type where there are fewer images than in a batch."""
    devices, microbatches = batch_devices(network.mesh), config.train.microbatches
    if images < devices:
        return f"{devices} devices need at least as many images"
    other = ""
    if images < devices * microbatches:
        microbatches, other = 1, " --config.train.microbatches=1"
    parts = devices * microbatches
    return f"use --config.train.batch_size={parts << ((images // parts).bit_length() - 1)}{other}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What follows from a config, its network and the size of its data."""

    steps: int
    optimizer: optax.GradientTransformation
    trained: Params | None
    """Which parameters are trained, as `Learner` has it."""
    cooldown: int | None
    """The step after which a cooldown begins, if there is one: a run that is to be longer branches
    off here."""
    learning_rate: Multiplier
    """Of a step, counted from 0: the peak rate times the schedule, before multipliers."""


def _check_kept(config: RunConfig) -> None:
    """Checks that something is evaluated whose metrics may be called as `train.keep_best` is.

    Raises:
      ValueError: if nothing is.
    """
    best, evaluations = config.train.keep_best, config.evaluations
    heads = [head for name, one in evaluations.items() for head in one.heads(name)]
    if best is not None and best.partition("/")[0] not in heads:
        begin = ", ".join(f"{head}/" for head in dict.fromkeys(heads))
        raise ValueError(
            f"is {best!r}, but nothing is evaluated that is called so; metrics begin with "
            f"{begin or 'nothing, as there are no evaluations'}"
        )


def plan(config: RunConfig, network: Network, splits: Splits) -> Plan:
    """Checks, before anything is loaded or compiled, that a run can be what its config asks for.

    Raises:
      ConfigError: naming everything that does not fit.
    """
    problems: list[str] = []

    @contextlib.contextmanager
    def collect(section):
        try:
            yield
        except ValueError as error:
            problems.append(f"{section}: {error}")

    batch, images = config.train.batch_size, len(splits.train)
    if batch > images:
        problems.append(
            f"config.train.batch_size is {batch}, larger than the data ({images} images); "
            f"{_smaller_batch(config, network, images)}"
        )
    steps, schedule = 0, None
    with collect("config.train"):
        steps = config.train.steps(images)
    with collect("config.schedule"):
        schedule = make_schedule(config.schedule, steps, batch_size=batch, images=images)
    with collect("config.mesh"):
        network.check_rules()
        with collect("config.model"):
            network.check(batch)
        with collect("config.optimizer"):
            params = network.abstract_params
            optimizer = make_optimizer(config.optimizer, schedule, params, network.axes)
            trained = trained_params(config.optimizer, params, network.axes)
    with collect("config.train.keep_best"):
        _check_kept(config)
    if config.branch_from and not problems:
        with collect("config.branch_from"):
            check_branch(config, RunLength(steps, batch, images))
    if problems:
        raise ConfigError(problems)
    rate = config.optimizer.learning_rate
    cooldown = config.schedule.cooldown(RunLength(steps, batch, images))
    return Plan(
        steps,
        optimizer,
        trained,
        steps - cooldown if cooldown else None,
        lambda step: rate * schedule(step),
    )
