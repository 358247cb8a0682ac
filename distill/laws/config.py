"""What a config says of a scaling study."""

import dataclasses
import re
from typing import Annotated

from distill import config as configs
from distill.bounds import Between, Seed, SomeSteps, check_fields
from distill.config import ConfigError
from distill.runs.pretraining import PretrainConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Sizes, durations, and what all runs have in common.

    Raises:
      ValueError: for sizes that are no models, and durations that contradict the base.
    """

    base: PretrainConfig
    """The longest run, whose schedule has no end but its cooldown: rsqrt or constant. With
    `cooldown_percent` all runs cool down for the same share of their length."""
    sizes: tuple[tuple[str, tuple[tuple[str, int | float | str], ...]], ...]
    """(name, ((key, value), …)) pairs: what a size changes in the base's model and optimizer, such
    as ("S", (("model.width", 384), ("optimizer.learning_rate", 1e-3)))."""
    durations: tuple[SomeSteps, ...]
    """Steps, cooldown included; the longest is that of the base."""
    resamples: Annotated[int, Between(100, 10**6)] = 1000
    """Of the bootstrap that gives the law's confidence intervals."""
    bootstrap_seed: Seed = 0

    def __post_init__(self):
        check_fields(self)
        names = [name for name, _ in self.sizes]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"sizes must be one or more with different names, not {names}")
        for name in names:
            if not re.fullmatch(r"\w[\w.+-]*", name):
                raise ValueError(f"size {name!r} cannot name a directory; use letters and digits")
        if not self.durations or len(set(self.durations)) < len(self.durations):
            raise ValueError(f"durations must be one or more different ones, not {self.durations}")
        if self.base.train.total_steps != max(self.durations):
            raise ValueError(
                f"base.train.total_steps is {self.base.train.total_steps}, but the longest of "
                f"durations {max(self.durations)}; they must be equal"
            )
        if self.base.schedule.kind not in ("rsqrt", "constant"):
            raise ValueError(
                f"base.schedule.kind is {self.base.schedule.kind}, which depends on where the run "
                "ends; only rsqrt and constant can be branched"
            )
        given = vars(self.base.schedule)
        for key in ("warmup_percent", "timescale_percent"):
            if given[key] is not None:
                raise ValueError(
                    f"base.schedule.{key} is not the same step in runs of several lengths; give "
                    f"{key.replace('percent', 'steps')}"
                )
        if self.base.branch_from is not None:
            raise ValueError("base.branch_from must be none: a study starts from nothing")
        self.longest()

    def longest(self) -> dict[str, PretrainConfig]:
        """The longest run of each size, by name.

        Raises:
          ValueError: naming everything that is wrong with a size.
        """
        problems, found = [], {}
        for name, changes in self.sizes:
            foreign = [key for key, _ in changes if not key.startswith(("model.", "optimizer."))]
            if foreign:
                problems.append(f"size {name} may change model.* and optimizer.*, not {foreign}")
                continue
            overrides = {key: str(value) for key, value in changes}
            if len(overrides) < len(changes):
                problems.append(f"size {name} changes a key twice: {[key for key, _ in changes]}")
                continue
            try:
                found[name] = configs.resolve(PretrainConfig, configs.stated(self.base), overrides)
            except ConfigError as error:
                problems += [f"size {name}: {problem}" for problem in error.problems]
        if problems:
            raise ValueError("; ".join(problems))
        return found
