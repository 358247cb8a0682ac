"""One long run, many finished models: cooldowns that branch off its checkpoints.

"Scaling Vision Transformers" (arXiv 2106.04560, §3.5): as rsqrt and constant schedules do not know
where a run ends, any checkpoint of one run can be cooled down to a model of its own. It is the
model that a run of that length would have given, bit for bit on the same devices, for the price of
its cooldown.
"""

import contextlib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from distill.config import execution_keys, resolve, to_dict
from distill.errors import UserError
from distill.optim import RunLength, ScheduleConfig
from distill.optim.durations import UNITS
from distill.paths import local_path
from distill.train.checkpoints import Checkpoints
from distill.train.config import TrainConfig
from distill.train.differences import differences
from distill.train.state import TrainState
from distill.train.workdir import is_run, read_config, read_images

T = TypeVar("T")

_LENGTHS = ("total_steps", "total_epochs", "total_examples")
_COOLDOWNS = tuple(f"cooldown_{unit}" for unit in UNITS)
_SHARED = ("warmup", "timescale")
# What makes a branch; everything else is its parent's.
OF_A_BRANCH = (
    "branch_from",
    *(f"train.{name}" for name in _LENGTHS),
    *(f"schedule.{name}" for name in _COOLDOWNS),
    # A share of the parent's length is another one of the branch's; steps are compared instead.
    *(f"schedule.{name}_{unit}" for name in _SHARED for unit in ("steps", "percent")),
)


def branch_config(schema: type[T], origin: str, overrides: Mapping[str, str], workdir: Path) -> T:
    """The config of a branch: its parent's, ended by a cooldown of its own.

    Args:
      schema: the pipeline's config.
      origin: `WORKDIR@STEP` of the parent; without `@STEP` its newest checkpoint before a cooldown
        of its own, or the one at which a branch that stands in `workdir` already left it.
      overrides: `schedule.cooldown_steps`, after which the branch ends unless one of
        `train.total_*` says otherwise, and whatever else may differ between runs in one workdir.
      workdir: of the branch.

    Raises:
      UserError: if there is no such parent or checkpoint, or no duration.
      ConfigError: for overrides that are no config.
    """
    parent, step = _parse(origin)
    tree = read_config(parent)
    if step is None:
        step = _begun(workdir, parent)
    train, schedule = resolve(TrainConfig, tree["train"]), resolve(ScheduleConfig, tree["schedule"])
    length = _length(train, read_images(parent, "train"))
    if step is None:
        step = _newest(parent, schedule, length)
    tree["branch_from"] = f"{parent}@{step}"
    tree["schedule"] |= dict.fromkeys(_COOLDOWNS) | _in_steps(schedule, length)
    tree["train"] |= dict.fromkeys(_LENGTHS)
    if not any(f"train.{name}" in overrides for name in _LENGTHS):
        try:
            tree["train"]["total_steps"] = step + int(overrides["schedule.cooldown_steps"])
        except (KeyError, ValueError) as error:
            raise UserError(
                "a branch needs the length of its cooldown in steps, "
                "--config.schedule.cooldown_steps=N, or its total length, --config.train.total_*"
            ) from error
    return resolve(schema, tree, overrides)


def _length(train: TrainConfig, images: int | None) -> RunLength | None:
    """A run's length; None where it is in epochs of data of which nothing was recorded."""
    if images is None and train.total_epochs is not None:
        return None
    return RunLength(train.steps(images or 0), train.batch_size, images)


def _in_steps(schedule: ScheduleConfig, length: RunLength | None) -> dict[str, int | None]:
    """Shares of the parent's length as the steps they are, for a branch of another length."""
    found = {}
    for name in _SHARED:
        if getattr(schedule, f"{name}_percent") is None:
            continue
        if length is None:
            raise UserError(
                f"the {name} of the run to branch is {name}_percent of a length in epochs, and it "
                "did not record how many images it has; only a run that did can be branched"
            )
        found |= {f"{name}_percent": None, f"{name}_steps": getattr(schedule, name)(length)}
    return found


def _newest(parent: Path, schedule: ScheduleConfig, length: RunLength | None) -> int:
    """The parent's newest checkpoint before its own cooldown, or if it has none, its newest."""
    saved = _steps(parent)
    if length is None:
        return saved[-1]
    begins = length.total_steps - schedule.cooldown(length)
    return max((step for step in saved if step <= begins), default=saved[-1])


def check_branch(config: Any, length: RunLength) -> None:
    """Checks that a run with `branch_from` goes on with what its parent was doing.

    Args:
      config: the branch's.
      length: the branch's.

    Raises:
      ValueError: saying why it would not be the run it claims to be.
      UserError: if there is no such parent or checkpoint.
    """
    path, step = _parse(config.branch_from)
    if step is None:
        raise ValueError(f"{config.branch_from!r} names no step; expected WORKDIR@STEP")
    parent = resolve(type(config), read_config(path))
    different = differences(
        to_dict(parent),
        to_dict(config),
        may_change=(*OF_A_BRANCH, *execution_keys(type(config))),
    )
    if different:
        listing = ", ".join(f"{key} ({there!r})" for key, (there, _) in different.items())
        raise ValueError(
            f"a branch differs from its parent in its cooldown and length alone, not in {listing}"
        )
    if step not in _steps(path):
        saved = ", ".join(map(str, _steps(path)))
        raise ValueError(f"{path} has no checkpoint of step {step}; it has {saved}")
    parent_steps = parent.train.steps(length.images)
    _check_schedules(
        parent.schedule,
        RunLength(parent_steps, length.batch_size, length.images),
        config.schedule,
        length,
        step,
    )


def _check_schedules(
    parent: ScheduleConfig,
    parent_length: RunLength,
    branch: ScheduleConfig,
    length: RunLength,
    step: int,
) -> None:
    if parent.kind not in ("rsqrt", "constant"):
        raise ValueError(
            f"the learning rate of a {parent.kind} schedule depends on where the run ends; only "
            "rsqrt and constant can be branched"
        )
    for name in ("warmup", "timescale"):
        theirs = getattr(parent, name)(parent_length)
        ours = getattr(branch, name)(length)
        if theirs != ours:
            raise ValueError(
                f"{name} is {theirs} steps in the parent and {ours} in a branch of another "
                f"length; give the parent's {name} in steps"
            )
    cooled = parent_length.total_steps - parent.cooldown(parent_length)
    if step > cooled:
        raise ValueError(f"at step {step} the parent is in its own cooldown, begun at {cooled}")
    begins = length.total_steps - branch.cooldown(length)
    if length.total_steps <= step:
        raise ValueError(
            f"a branch that leaves its parent at step {step} is longer than that, not "
            f"{length.total_steps} steps long"
        )
    if begins < step:
        raise ValueError(
            f"a cooldown of {branch.cooldown(length)} steps that ends at step "
            f"{length.total_steps} does not begin at or after step {step}"
        )


def restore_origin(
    origin: str, abstract: TrainState, training_only: Collection[str] = ()
) -> tuple[TrainState, dict[str, Any]]:
    """The parent's state at `WORKDIR@STEP`, and the position of its data.

    Args:
      origin: of the branch.
      abstract: the state to be, with its shardings.
      training_only: as the parent's checkpoints have them apart.
    """
    path, step = _parse(origin)
    if step is None:
        raise UserError(f"branch_from is {origin!r}; expected WORKDIR@STEP")
    parent = Checkpoints(path, read_only=True, training_only=training_only)
    with contextlib.closing(parent) as checkpoints:
        return checkpoints.restore(abstract, step)


def origin_of(branch_from: str) -> Path:
    """The workdir of the parent that `config.branch_from` names."""
    return _parse(branch_from)[0]


def _parse(origin: str) -> tuple[Path, int | None]:
    path, at, step = origin.rpartition("@")
    if not at or not re.fullmatch(r"\d{1,10}", step):
        path, step = origin, None
    return Path(local_path(path, "branch_from")), None if step is None else int(step)


def _begun(workdir: Path, parent: Path) -> int | None:
    """The step at which a branch in `workdir` left `parent`, if there is one."""
    if not is_run(workdir):
        return None
    origin = read_config(workdir).get("branch_from")
    if origin is None:
        return None
    path, step = _parse(origin)
    return step if path.resolve() == parent.resolve() else None


def _steps(workdir: Path) -> list[int]:
    with contextlib.closing(Checkpoints(workdir, read_only=True)) as checkpoints:
        if not checkpoints.steps:
            raise UserError(f"no checkpoint in {workdir}; train it first")
        return checkpoints.steps
