"""What every training pipeline does once it has a model, a task and data."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jax.sharding import Mesh

from distill.config import execution_keys, to_dict, with_defaults
from distill.data import Splits, Store, TrainLoader
from distill.data.batch_spec import batch_spec
from distill.data.examples import TeacherView
from distill.data.needed import host_bytes
from distill.nn.execution import Execution
from distill.parallel import distributed, local_rows, put_batch
from distill.parallel.printed import say
from distill.startup import STARTUP
from distill.train.best import check_metric
from distill.train.branch import origin_of
from distill.train.clock import Clock
from distill.train.config import TrainConfig
from distill.train.kept import begin, common_step, open_best, open_checkpoints
from distill.train.loggers.logger import check_installed
from distill.train.loop import Loop, Track
from distill.train.memory import Knobs, check_fits, check_held, explained
from distill.train.metrics import open_log
from distill.train.metrics import read as read_metrics
from distill.train.progress import format_seconds
from distill.train.run import blame
from distill.train.step import Learner, check_microbatches, compile_joint_step
from distill.train.trainee import Trained, Trainee
from distill.train.workdir import check_same_data

# First parts of the names of metrics that a summary leaves out.
_NOT_FINAL = ("step", "train")


def fit(
    name: str,
    trainees: Mapping[str, Trainee],
    *,
    mesh: Mesh,
    splits: Splits,
    view_size: int,
    frozen: Any = None,
    freeze: Callable[[bool], Mapping[str, Any]] | None = None,
    teacher_view: TeacherView = "same",
    store: Store | None = None,
) -> dict[str, Trained]:
    """Trains networks, or goes on where their workdirs' newest checkpoints stand.

    Several are trained on the same batches and frozen parameters, each with its own optimiser and
    workdir, and become what they would become alone.

    Args:
      name: what progress lines call the run.
      trainees: by name; their configs have seed, data, train and mesh in common.
      mesh: what to run on.
      splits: images to train, validate and test on.
      view_size: side of the views in pixels; every model resizes them to its own resolution.
      frozen: parameters the tasks need that are not trained; never saved.
      freeze: finds more of what is frozen, by name, once the workdirs are this run's; it is told
        whether the run goes on from a checkpoint. None finds nothing.
      teacher_view: what else batches hold for teachers.
      store: whose examples to train on, again and again, in place of new views; made with the
        same seed and batch size.

    Raises:
      UserError: for anything the user can mend; see `distill.train.loop` for what can stop a run.
    """
    config = next(iter(trainees.values())).config
    steps = next(iter(trainees.values())).plan.steps
    check_installed(config.train.loggers)
    with blame("config.train"):
        for one in trainees.values():
            check_microbatches(one.task, config.train.microbatches)

    rows = local_rows(mesh, config.train.batch_size)
    spec = batch_spec(splits.train.spec, view_size, teacher_view=teacher_view)
    loading = host_bytes(splits.train, config.data, spec, len(rows))
    check_held([one.abstract_state for one in trainees.values()], mesh, loading)
    for one in trainees.values():
        if (best := one.config.train.keep_best) is not None:
            params = one.network.abstract_params
            check_metric(best, [each.evaluate.metrics(params, frozen) for each in one.evaluations])
    claim(trainees.values(), splits)
    executed = executions(trainees.values(), config.train)
    tell_executions(name, executed)
    in_parts = all(one.task.mean_over_examples for one in trainees.values())
    remat = {f"{section}.remat": how.remat for section, how in executed.items()}
    knobs = Knobs.of(config.train, mesh, remat, in_parts=in_parts)

    def compile_step(states, frozen, batch):
        compiled = compile_joint_step(
            {key: _learner(one) for key, one in trainees.items()},
            config.seed,
            states,
            frozen,
            batch,
            microbatches=config.train.microbatches,
            repeat_after=None if store is None else len(store) // config.train.batch_size,
        )
        if compiled.copied_bytes:
            say(
                f"{name}: warning: {compiled.copied_bytes / 2**20:,.1f} MiB of parameters and "
                "optimizer are in a device's memory twice during a step, as the compiler puts the "
                "new ones elsewhere"
            )
        check_fits(compiled, mesh, knobs)
        return compiled

    with contextlib.ExitStack() as logged:
        with contextlib.ExitStack() as stack:
            stack.enter_context(explained(knobs.advice))
            checkpoints = {
                key: open_checkpoints(one, stack, alone=len(trainees) == 1)
                for key, one in trainees.items()
            }
            at = common_step(checkpoints)
            for one in checkpoints.values():
                one.prune(at)
            with STARTUP.during("init" if at < 0 and not config.branch_from else "restore"):
                begun = {key: begin(checkpoints[key], at, one) for key, one in trainees.items()}
            states = {key: state for key, (state, _) in begun.items()}
            progress = next(progress for _, progress in begun.values())
            done = int(next(iter(states.values())).step)
            summaries = {key: one.workdir.summary for key, one in trainees.items()}
            if distributed.agree(done == steps and None not in summaries.values()):
                say(f"{name}: {_places(trainees)} complete already")
                return {
                    key: Trained(state.weights, summaries[key] or {})
                    for key, state in states.items()
                }
            if config.branch_from:
                say(f"{name}: a branch of {config.branch_from}")
            if at >= 0:
                say(f"{name}: resuming after step {done}")
            if freeze is not None:
                frozen = {**frozen, **freeze(at >= 0)}
            loader = TrainLoader(
                splits.train,
                config.data,
                size=view_size,
                batch_size=config.train.batch_size,
                seed=config.seed,
                put=functools.partial(put_batch, mesh, size=config.train.batch_size),
                rows=rows,
                next_example=progress["next_example"],
                skipped=progress["skipped"],
                teacher_view=teacher_view,
                store=store,
                needs_labels=any(one.task.needs_labels for one in trainees.values()),
            )
            stack.callback(loader.close)
            logs = {
                key: open_log(
                    one.workdir.path, done, logged, config.train.loggers, to_dict(one.config)
                )
                for key, one in trainees.items()
            }
            loop = Loop(
                name=name,
                config=config.train,
                total_steps=steps,
                compile=compile_step,
                loader=loader,
                save_at=frozenset(
                    one.plan.cooldown for one in trainees.values() if one.plan.cooldown is not None
                ),
                tracks={
                    key: Track(
                        one.evaluations,
                        checkpoints[key],
                        logs[key],
                        open_best(one, stack),
                        one.terms,
                    )
                    for key, one in trainees.items()
                },
                check_place=lambda: [one.workdir.check_there() for one in trainees.values()],
                clock=Clock(
                    config.train.batch_size, progress["training_seconds"], progress["seconds"]
                ),
                # Earlier versions did not keep them.
                pauses=progress.get("pauses", {}),
            )
            states = loop.run(states, frozen)
        say(f"{name}: finished {steps} steps in {format_seconds(loop.clock.seconds)}")

        found = {}
        for key, one in trainees.items():
            summary = _summarise(loop, one, steps)
            if one.final:
                with explained(knobs.advice):
                    summary |= one.final(states[key].weights, frozen)
            if one.examples:
                with explained(knobs.advice):
                    one.examples(states[key].weights, frozen)
            if distributed.is_primary():
                one.workdir.write_summary(summary)
            logs[key].conclude(summary)
            found[key] = Trained(states[key].weights, summary)
        return found


def fit_one(name: str, trainee: Trainee, **shared: Any) -> Trained:
    """`fit` for a single network."""
    return fit(name, {"network": trainee}, **shared)["network"]


def claim(trainees: Iterable[Trainee], splits: Splits) -> None:
    """Claims the workdirs of runs, and records what they depend on.

    Args:
      trainees: each with its workdir.
      splits: their images.

    Raises:
      UserError: if a workdir is another run's, or of other data.
    """
    # One process is enough to look at every file.
    data = splits.record() if distributed.is_primary() else None
    for one in trainees:
        distributed.check_same("the config", to_dict(one.config))
        if one.config.branch_from:
            check_same_data(origin_of(one.config.branch_from), one.class_names, data)
        one.workdir.claim(
            to_dict(one.config),
            may_change=execution_keys(type(one.config)),
            classes=one.class_names,
            data=data,
            complete=functools.partial(with_defaults, one.config),
        )
        if one.teachers and distributed.is_primary():
            one.workdir.write_teachers(one.teachers)


def executions(trainees: Iterable[Trainee], train: TrainConfig) -> dict[str, Execution]:
    """How the encoders of networks are executed, by the section of the config that says it."""
    at_once = train.batch_size // train.microbatches
    return {
        ".".join(filter(None, (one.section, key))): how
        for one in trainees
        for key, how in one.network.executions(at_once).items()
    }


def tell_executions(name: str, executed: Mapping[str, Execution]) -> None:
    """Says what was chosen where a config leaves it open, and what is asked for in vain."""
    for section, how in executed.items():
        if how.why:
            chosen = f"remat={how.remat}, unroll={str(how.unroll).lower()}"
            say(f"{name}: config.{section} runs with {chosen}: {how.why}")
        if how.saves_nothing:
            say(
                f"{name}: warning: config.{section}.remat={how.remat} takes time and saves no "
                "memory where a CPU runs layers as straight-line code; set unroll=false, or "
                "remat=none"
            )


def _learner(trainee: Trainee) -> Learner:
    return Learner(
        trainee.task,
        trainee.plan.optimizer,
        trainee.plan.trained,
        trainee.config.optimizer.average_decay,
        trainee.plan.learning_rate,
    )


def _places(trainees: Mapping[str, Trainee]) -> str:
    paths = ", ".join(str(one.workdir.path) for one in trainees.values())
    return f"{paths} {'are' if len(trainees) > 1 else 'is'}"


def _summarise(loop: Loop, trainee: Trainee, steps: int) -> dict[str, Any]:
    """The figures of a run that has come to its end, but for those of the test split."""
    primary = distributed.is_primary()
    last = read_metrics(trainee.workdir.path)[-1] if primary else {}
    summary = {
        "steps": steps,
        "parameters": trainee.network.parameter_count(without=trainee.task.training_only),
        "images_per_second": round(loop.clock.mean_rate(steps), 1),
        "seconds": round(loop.clock.seconds, 1),
        "skipped_images": loop.position()["skipped"],
    }
    if loop.first_step_seconds is not None:
        summary["first_step_seconds"] = round(loop.first_step_seconds, 1)
    summary |= {key: value for key, value in last.items() if key.split("/")[0] not in _NOT_FINAL}
    if trainee.config.branch_from:
        summary["branched_from"] = trainee.config.branch_from
    return summary
