"""What a run keeps, opened, and where it goes on."""

import contextlib
from collections.abc import Mapping
from typing import Any

from distill.errors import Damaged
from distill.parallel import distributed
from distill.train.best import Best
from distill.train.branch import restore_origin
from distill.train.checkpoints import Checkpoints
from distill.train.damage import CHECKPOINTS, damaged
from distill.train.state import TrainState, init_state
from distill.train.trainee import Trainee


def open_checkpoints(
    trainee: Trainee, stack: contextlib.ExitStack, *, alone: bool = True
) -> Checkpoints:
    """Those of a run, closed with the stack.

    Args:
      trainee: whose.
      stack: closes them.
      alone: whether it is trained by itself. Of several, each keeps two at least: one student's
        newest may stand when another's is still to come, and then all go on from the one before.
    """
    train = trainee.config.train
    checkpoints = Checkpoints(
        trainee.workdir.path,
        keep=train.keep_checkpoints if alone else max(train.keep_checkpoints, 2),
        keep_every=train.keep_every,
        keep_step=trainee.plan.cooldown,
        training_only=trainee.task.training_only,
    )
    stack.callback(checkpoints.close)
    return checkpoints


def open_best(trainee: Trainee, stack: contextlib.ExitStack) -> Best | None:
    """Its best weights, closed with the stack; None where none are kept."""
    metric = trainee.config.train.keep_best
    if metric is None:
        return None
    best = Best(trainee.workdir.path, metric, training_only=trainee.task.training_only)
    stack.callback(best.close)
    return best


def common_step(checkpoints: Mapping[str, Checkpoints]) -> int:
    """The newest step of which there is a checkpoint of every network, -1 if there is none.

    A run may be killed when it has saved some of its networks.

    Raises:
      Damaged: if each has checkpoints, but none of the same step: what was trained is not
        trained again without a word.
    """
    steps = {name: one.steps for name, one in checkpoints.items()}
    common = set.intersection(*map(set, steps.values()))
    if not common and all(steps.values()):
        newest = ", ".join(f"step {found[-1]} of {name}" for name, found in steps.items())
        raise Damaged(
            f"there is no step that all have a checkpoint of; the newest are {newest}. Put back a "
            "copy of what is missing, or begin anew in another --workdir"
        )
    return distributed.agree(max(common, default=-1))


def begin(
    checkpoints: Checkpoints, step: int, trainee: Trainee
) -> tuple[TrainState, dict[str, Any]]:
    """The state to go on with, and the data's position.

    They are those of the checkpoint of `step`, or where that is -1 of the run this one branches
    off, or from before the first step.
    """
    config, network, optimizer = trainee.config, trainee.network, trainee.plan.optimizer
    averaged = config.optimizer.average_decay is not None
    start = {"next_example": 0, "skipped": 0, "training_seconds": 0.0, "seconds": 0.0}
    if step >= 0:
        state, progress = checkpoints.restore(trainee.abstract_state, step)
        if missing := start.keys() - progress.keys():
            checkpoint = trainee.workdir.path / CHECKPOINTS / str(step)
            problem = f"its progress does not say {', '.join(sorted(missing))}"
            raise damaged(checkpoint, [problem])
        return state, progress
    if config.branch_from is not None:
        abstract = trainee.abstract_state
        return restore_origin(config.branch_from, abstract, trainee.task.training_only)
    params = None if trainee.initial is None else trainee.initial()
    state = init_state(network, optimizer, config.seed, params=params, averaged=averaged)
    return state, start
