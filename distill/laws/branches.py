"""The runs of a study: one without an end for each size, and the cooldowns that branch off it."""

import dataclasses
import math
from collections.abc import Sequence

from distill.config import ConfigError
from distill.data import Splits
from distill.laws.config import StudyConfig
from distill.laws.study import Point
from distill.optim import RunLength
from distill.optim.durations import UNITS
from distill.runs.pretraining import PretrainConfig
from distill.train.run import open_mesh, plan

_MOST_CHECKPOINTS = 50


def branching(longest: PretrainConfig, durations: tuple[int, ...], images: int) -> dict[int, int]:
    """For each duration, ascending, the step at which its cooldown begins."""
    lengths = [RunLength(total, longest.train.batch_size, images) for total in sorted(durations)]
    return {
        length.total_steps: length.total_steps - longest.schedule.cooldown(length)
        for length in lengths
    }


def trunk_config(longest: PretrainConfig, begins: dict[int, int]) -> PretrainConfig:
    """The run that all cooldowns branch off; it keeps a checkpoint where each begins."""
    no_cooldown = {f"cooldown_{unit}": None for unit in UNITS}
    return dataclasses.replace(
        longest,
        schedule=dataclasses.replace(longest.schedule, **no_cooldown),
        train=dataclasses.replace(
            longest.train,
            total_steps=max(begins.values()),
            keep_every=math.gcd(*begins.values()),
        ),
    )


def check_study(config: StudyConfig, splits: Splits) -> None:
    """Checks everything that can be checked before the first run.

    Raises:
      ConfigError: naming everything that does not fit.
    """
    problems = []
    if splits.validation is None and splits.test is None:
        problems.append("config.base.data: there is neither a validation nor a test split")
    begins = branching(config.base, config.durations, len(splits.train))
    length = RunLength(max(config.durations), config.base.train.batch_size, len(splits.train))
    warmup = config.base.schedule.warmup(length)
    for total, step in begins.items():
        if not warmup < step < total:
            problems.append(
                f"config.durations: the cooldown of {total} steps begins at step {step}, which is "
                f"not between the warmup's end ({warmup}) and its own"
            )
    kept = max(begins.values()) // math.gcd(*begins.values())
    if kept > _MOST_CHECKPOINTS:
        problems.append(
            f"config.durations: cooldowns begin at steps {', '.join(map(str, begins.values()))}, "
            f"which takes {kept} checkpoints at equal distances; choose multiples of the shortest"
        )
    for name, longest in config.longest().items():
        try:
            mesh = open_mesh(longest)
            plan(longest, longest.model.network().placed(mesh, longest.mesh.table), splits)
        except ConfigError as error:
            problems += [f"size {name}: {problem}" for problem in error.problems]
    if problems:
        raise ConfigError(problems)


def flops_spent(config: StudyConfig, points: Sequence[Point], splits: Splits) -> dict[str, float]:
    """FLOPs of all runs, and of training every model from its start."""
    spent = 0.0
    for name, longest in config.longest().items():
        begins = branching(longest, config.durations, len(splits.train))
        per_step = next(p.flops / p.steps for p in points if p.size == name)
        steps = max(begins.values()) + sum(total - step for total, step in begins.items())
        spent += steps * per_step
    return {"spent": spent, "apart": sum(point.flops for point in points)}
