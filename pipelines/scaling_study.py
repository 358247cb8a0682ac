"""Measures how error falls with compute, and fits the scaling law to it.

  distill scaling_study --config=configs/scaling/digits.py --workdir=runs/scaling

Every size of a model is trained once, without an end, and for every duration a cooldown branched
off that run finishes a model ("train one, get many", arXiv 2106.04560, §3.5). The law is fitted to
the models that no other beats in both compute and error. Prints a table; writes report.html and
summary.json. Running the same command again goes on where it stopped.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags

from distill import config as configs
from distill.command.flags import (
    define_config,
    define_path,
    define_process_flags,
    join,
    parse,
    split_overrides,
)
from distill.command.launch import launch
from distill.config import ConfigError
from distill.data import Splits
from distill.laws.study import MEASURES, Point, find_trend, held_out, held_out_images
from distill.nn.flops import encoder_flops
from distill.optim import RunLength
from distill.optim.durations import UNITS
from distill.parallel import distributed
from distill.report.scaling import law_rows, study_header, study_rows, write_scaling_report
from distill.report.text import text_table
from distill.runs.models import with_classes
from distill.train.branch import branch_config
from distill.train.progress import say
from distill.train.run import open_mesh, plan
from distill.train.workdir import Workdir
from pipelines import pretrain
from pipelines.pretrain import PretrainConfig

FLAGS = flags.FlagValues()
define_config(FLAGS)
define_path("workdir", "Directory the study writes to.", FLAGS)
define_process_flags(FLAGS)

# What may change in a study's workdir: sizes can be added, and each run looks after itself.
_MAY_CHANGE = ("sizes", "resamples", "bootstrap_seed")
_MOST_CHECKPOINTS = 50


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
    durations: tuple[int, ...]
    """Steps, cooldown included; the longest is that of the base."""
    resamples: int = 1000
    """Of the bootstrap that gives the law's confidence intervals."""
    bootstrap_seed: int = 0

    def __post_init__(self):
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
        if self.resamples < 100:
            raise ValueError(f"resamples must be at least 100, not {self.resamples}")
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


def run(config: StudyConfig, workdir: Workdir) -> dict[str, Any]:
    """Trains what is missing and returns what summary.json holds; {} but in the primary."""
    splits = config.base.data.open_splits(channels=config.base.model.channels)
    splits.check_all_labelled("pre-training", "config.base.data.source")
    base = with_classes(config.base, len(splits.class_names))
    config = dataclasses.replace(config, base=base)
    _check(config, splits)
    workdir.claim(
        configs.to_dict(config),
        may_change=(*_MAY_CHANGE, *configs.execution_keys(StudyConfig)),
        complete=functools.partial(configs.with_defaults, config),
    )
    points = []
    for number, (name, longest) in enumerate(config.longest().items(), 1):
        say(f"study: size {name}, {number} of {len(config.sizes)}")
        points += _train(name, longest, config.durations, workdir.path / name, splits)
    return _conclude(config, workdir, points, splits) if distributed.is_primary() else {}


def branching(longest: PretrainConfig, durations: tuple[int, ...], images: int) -> dict[int, int]:
    """For each duration, ascending, the step at which its cooldown begins."""
    lengths = [RunLength(total, longest.train.batch_size, images) for total in sorted(durations)]
    return {
        length.total_steps: length.total_steps - longest.schedule.cooldown(length)
        for length in lengths
    }


def _check(config: StudyConfig, splits: Splits) -> None:
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


def _train(
    name: str, longest: PretrainConfig, durations: tuple[int, ...], path: Path, splits: Splits
) -> Iterator[Point]:
    """The run without end of one size, and each model that branches off it."""
    begins = branching(longest, durations, len(splits.train))
    trunk = path / "trunk"
    pretrain.run(_trunk(longest, begins), Workdir(trunk), f"{name} trunk", overview=False)
    flops_per_image = 3 * encoder_flops(longest.model.network().config)
    for total, step in begins.items():
        overrides = {"schedule.cooldown_steps": str(total - step), "train.keep_every": "none"}
        branch = branch_config(PretrainConfig, f"{trunk}@{step}", overrides, path / str(total))
        trained = pretrain.run(
            branch, Workdir(path / str(total)), f"{name} {total}", overview=False
        )
        images = total * longest.train.batch_size
        yield Point(
            size=name,
            parameters=trained.summary["parameters"],
            steps=total,
            images=images,
            flops=flops_per_image * images,
            errors=held_out(trained.summary, held_out_images(splits)),
        )


def _trunk(longest: PretrainConfig, begins: dict[int, int]) -> PretrainConfig:
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


def _conclude(
    config: StudyConfig, workdir: Workdir, points: list[Point], splits: Splits
) -> dict[str, Any]:
    """Fits, writes and prints."""
    trends = [
        find_trend(points, measure, resamples=config.resamples, seed=config.bootstrap_seed)
        for measure in MEASURES
    ]
    summary = {
        "models": [
            dataclasses.asdict(point)
            | {"frontier_of": [trend.measure for trend in trends if trend.frontier[number]]}
            for number, point in enumerate(points)
        ],
        "laws": {trend.measure: trend.figures() for trend in trends},
        "held_out_images": sum(held_out_images(splits).values()),
        "flops": _cost(config, points, splits),
    }
    report = write_scaling_report(workdir.path, points, trends, summary)
    workdir.write_summary(summary)
    print(text_table(study_header(trends), study_rows(points, trends)))
    for trend in trends:
        print(f"\n{trend.measure.replace('_', '-')} on its frontier (*): E = a·(C + d)^−b + c")
        print(trend.problem or text_table(("", "fit", "interval", ""), law_rows(trend.fit)))
    print(f"\nreport  {report}")
    return summary


def _cost(config: StudyConfig, points: list[Point], splits: Splits) -> dict[str, float]:
    """FLOPs of all runs, and of training every model from its start."""
    spent = 0.0
    for name, longest in config.longest().items():
        begins = branching(longest, config.durations, len(splits.train))
        per_step = next(p.flops / p.steps for p in points if p.size == name)
        steps = max(begins.values()) + sum(total - step for total, step in begins.items())
        spent += steps * per_step
    return {"spent": spent, "apart": sum(point.flops for point in points)}


def main(arguments: list[str]) -> None:
    """Runs the study the flags name."""
    overrides, rest = split_overrides(arguments)
    parse(FLAGS, rest, required=("config", "workdir"))
    join(FLAGS, workdir=Path(FLAGS.workdir))
    config = configs.resolve(StudyConfig, configs.load_file(FLAGS.config), overrides)
    run(config, Workdir(FLAGS.workdir))


if __name__ == "__main__":
    launch(__doc__, FLAGS, main, schema=StudyConfig)
