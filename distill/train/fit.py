"""What every training pipeline does once it has a model, a task and data."""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from distill.config import ConfigError, to_dict
from distill.data import DataConfig, EvalLoader, Source, Splits, TrainLoader
from distill.evaluate import Evaluator, PerExample
from distill.evaluate.features import split_loader
from distill.evaluate.transfer import TransferConfig, TransferEvaluator
from distill.nn import Network, Params
from distill.optim import (
    OptimizerConfig,
    RunLength,
    ScheduleConfig,
    make_optimizer,
    make_schedule,
    trained_params,
)
from distill.parallel import (
    MeshConfig,
    batch_devices,
    distributed,
    local_rows,
    make_mesh,
    put_batch,
)
from distill.train.branch import check_branch, restore_origin
from distill.train.checkpoints import Checkpoints
from distill.train.clock import Clock
from distill.train.loop import Evaluation, Loop, TrainConfig
from distill.train.metrics import MetricsLog, NoLog
from distill.train.metrics import read as read_metrics
from distill.train.progress import format_seconds, say
from distill.train.state import TrainState, abstract_state, init_state
from distill.train.step import Task, make_train_step
from distill.train.workdir import Workdir


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What all training pipelines have in common."""

    seed: int = 0
    """Of initial parameters, order, views and mixup: with the config it determines the run."""
    data: DataConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    train: TrainConfig
    mesh: MeshConfig = MeshConfig()
    transfer: TransferConfig | None = None
    """Evaluations of frozen features while training; None skips them."""
    branch_from: str | None = None
    """WORKDIR@STEP of the run whose state and data this one goes on with; see
    `distill.train.branch`. Set by --branch_from."""

    def __post_init__(self):
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be at least 0 and less than 2³², not {self.seed}")


# How a run runs, not what it computes: these may change when it is resumed. Numbers may differ in
# their last bits on another mesh, as sums are taken in another order.
HOW_IT_RUNS = (
    "mesh",
    "data.data_dir",
    "data.threads",
    "data.workers",
    "model.async_linear",
    "model.attention",
    "model.fused",
    "model.remat",
    "model.remat_keep",
    "model.unroll",
    "teacher.model.async_linear",
    "teacher.model.attention",
    "teacher.model.fused",
    "teacher.model.remat",
    "teacher.model.remat_keep",
    "teacher.model.unroll",
    "teacher.rules",
    "train.checkpoint_every",
    "train.eval_every",
    "train.keep_checkpoints",
    "train.keep_every",
    "train.log_every",
    "train.microbatches",
    "transfer",
)


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a finished run leaves behind."""

    params: Params
    summary: dict[str, Any]
    """As in summary.json: steps, parameters, accuracies, images per second, seconds.

    Where several processes take part, the primary's is the one to read.
    """


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


def evaluation_loader(config: RunConfig, source: Source, mesh: Mesh, view_size: int) -> EvalLoader:
    """Goes over `source` in batches of the run's size."""
    batch_size = config.train.batch_size
    return split_loader(source, config.data, mesh, size=view_size, batch_size=batch_size)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What follows from a config, its network and the size of its data."""

    steps: int
    optimizer: optax.GradientTransformation
    trained: Params | None
    """Which parameters are trained, a tree of bools; None is all."""


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
            f"config.train.batch_size is {batch}, larger than the data ({images} images)"
        )
    steps, schedule = 0, None
    with collect("config.train"):
        steps = config.train.steps(images)
    with collect("config.schedule"):
        schedule = make_schedule(config.schedule, steps, batch_size=batch, images=images)
    with collect("config.model"):
        network.check(batch)
    with collect("config.optimizer"):
        params = network.abstract_params
        optimizer = make_optimizer(config.optimizer, schedule, params, network.axes)
        trained = trained_params(config.optimizer, params)
    if config.branch_from and not problems:
        with collect("config.branch_from"):
            check_branch(config, RunLength(steps, batch, images), HOW_IT_RUNS)
    if problems:
        raise ConfigError(problems)
    return Plan(steps, optimizer, trained)


def fit(
    name: str,
    config: RunConfig,
    workdir: Workdir,
    *,
    mesh: Mesh,
    network: Network,
    task: Task,
    splits: Splits,
    view_size: int,
    per_example: PerExample,
    frozen: Any = None,
    initial: Callable[[], Params] | None = None,
) -> Trained:
    """Trains `network` on `task`, or goes on where the workdir's newest checkpoint stands.

    Args:
      name: what progress lines call the run.
      config: the run's config; what the workdir was begun with may differ in `HOW_IT_RUNS`.
      workdir: where everything goes.
      mesh: what to run on.
      network: what to train, placed on the mesh.
      task: what to train it for.
      splits: images to train, validate and test on.
      view_size: side of the views in pixels; every model resizes them to its own resolution.
      per_example: metrics of the evaluations.
      frozen: parameters the task needs that are not trained; never saved.
      initial: makes the parameters that a new run starts with; None draws them.

    Raises:
      UserError: for anything the user can mend; see `distill.train.loop` for what can stop a run.
    """
    planned = plan(config, network, splits)
    optimizer, steps = planned.optimizer, planned.steps
    transfer = config.transfer and TransferEvaluator(
        config.transfer, config.data, network, batch_size=config.train.batch_size
    )
    distributed.check_same("the config", json.dumps(to_dict(config)))
    workdir.claim(to_dict(config), may_change=HOW_IT_RUNS)

    def evaluator(prefix, source):
        return Evaluator(prefix, evaluation_loader(config, source, mesh, view_size), per_example)

    evaluations = []
    if splits.validation:
        evaluations.append(Evaluation(config.train.eval_every, evaluator("val", splits.validation)))
    if transfer:
        evaluations.append(Evaluation(config.transfer.every or config.train.eval_every, transfer))

    with contextlib.ExitStack() as stack:
        checkpoints = Checkpoints(
            workdir.path,
            keep=config.train.keep_checkpoints,
            keep_every=config.train.keep_every,
        )
        stack.callback(checkpoints.close)
        state, progress = _start(checkpoints, config, network, optimizer, initial)
        done = int(state.step)
        if distributed.agree(done == steps and workdir.summary is not None):
            say(f"{name}: {workdir.path} is complete already")
            return Trained(state.weights, workdir.summary or {})
        if config.branch_from:
            say(f"{name}: a branch of {config.branch_from}")
        if done:
            say(f"{name}: resuming after step {done}")
        loader = TrainLoader(
            splits.train,
            config.data,
            size=view_size,
            batch_size=config.train.batch_size,
            seed=config.seed,
            put=functools.partial(put_batch, mesh, size=config.train.batch_size),
            rows=local_rows(mesh, config.train.batch_size),
            next_example=progress["next_example"],
            skipped=progress["skipped"],
        )
        stack.callback(loader.close)
        primary = distributed.is_primary()
        log = MetricsLog(workdir.path, resume_step=done or -1) if primary else NoLog()
        stack.callback(log.close)
        placement = jax.tree.map(lambda leaf: leaf.sharding, state)
        loop = Loop(
            name=name,
            config=config.train,
            total_steps=steps,
            step=make_train_step(
                task,
                optimizer,
                config.seed,
                placement,
                microbatches=config.train.microbatches,
                trained=planned.trained,
                average_decay=config.optimizer.average_decay,
            ),
            loader=loader,
            evaluations=evaluations,
            checkpoints=checkpoints,
            metrics=log,
            clock=Clock(config.train.batch_size, progress["training_seconds"], progress["seconds"]),
        )
        state = loop.run(state, frozen)
    say(f"{name}: finished {steps} steps in {format_seconds(loop.clock.seconds)}")

    last = read_metrics(workdir.path)[-1] if primary else {}
    summary = {
        "steps": steps,
        "parameters": network.parameter_count(),
        "images_per_second": round(loop.clock.mean_rate(steps), 1),
        "seconds": round(loop.clock.seconds, 1),
        "skipped_images": loop.position()["skipped"],
    } | {key: value for key, value in last.items() if key.split("/")[0] not in ("step", "train")}
    if config.branch_from:
        summary["branched_from"] = config.branch_from
    if splits.test:
        summary |= evaluator("test", splits.test)(state.weights, frozen)
    if primary:
        workdir.write_summary(summary)
    return Trained(state.weights, summary)


def _start(
    checkpoints: Checkpoints,
    config: RunConfig,
    network: Network,
    optimizer: optax.GradientTransformation,
    initial: Callable[[], Params] | None,
) -> tuple[TrainState, dict[str, Any]]:
    """The state to go on with, and the data's position.

    They are those of the newest checkpoint, of the run this one branches off, or from before the
    first step.
    """
    averaged = config.optimizer.average_decay is not None
    step = distributed.agree(-1 if checkpoints.latest_step is None else checkpoints.latest_step)
    if step < 0 and config.branch_from is None:
        start = {"next_example": 0, "skipped": 0, "training_seconds": 0.0, "seconds": 0.0}
        params = None if initial is None else initial()
        state = init_state(network, optimizer, config.seed, params=params, averaged=averaged)
        return state, start
    abstract = abstract_state(network, optimizer, averaged=averaged)
    if step < 0:
        return restore_origin(config.branch_from, abstract)
    return checkpoints.restore(abstract, step)
