"""What every training pipeline does once it has a model, a task and data."""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from distill.config import to_dict
from distill.data import EvalLoader, Source, Splits, TrainLoader
from distill.evaluate import Evaluator, PerExample
from distill.evaluate.features import split_loader
from distill.evaluate.transfer import TransferEvaluator
from distill.nn import Network, Params
from distill.parallel import distributed, local_rows, put_batch
from distill.train.branch import restore_origin
from distill.train.checkpoints import Checkpoints
from distill.train.clock import Clock
from distill.train.loop import Evaluation, Loop
from distill.train.metrics import MetricsLog, NoLog
from distill.train.metrics import read as read_metrics
from distill.train.progress import format_seconds, say
from distill.train.run import HOW_IT_RUNS, RunConfig, plan
from distill.train.state import TrainState, abstract_state, init_state
from distill.train.step import Task, make_train_step
from distill.train.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a finished run leaves behind."""

    params: Params
    summary: dict[str, Any]
    """As in summary.json: steps, parameters, accuracies, images per second, seconds.

    Where several processes take part, the primary's is the one to read.
    """


def evaluation_loader(config: RunConfig, source: Source, mesh: Mesh, view_size: int) -> EvalLoader:
    """Goes over `source` in batches of the run's size."""
    batch_size = config.train.batch_size
    return split_loader(source, config.data, mesh, size=view_size, batch_size=batch_size)


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
