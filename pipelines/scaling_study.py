"""Measures how error falls with compute, and fits the scaling law to it.

  distill scaling_study --config=configs/scaling/digits.py --workdir=runs/scaling

Every size of a model is trained once, without an end, and for every duration a cooldown branched
off that run finishes a model ("train one, get many", arXiv 2106.04560, §3.5). The law is fitted to
the models that no other beats in both compute and error. Prints a table; writes report.html and
summary.json. Running the same command again goes on where it stopped.
"""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags

from distill import config as configs
from distill.command.flags import (
    define_config,
    define_path,
    define_verbose,
    parse,
    split_overrides,
)
from distill.command.launch import launch
from distill.command.parts import define_part, telling_parts, workdir_of_parts
from distill.command.processes import define_process_flags, join
from distill.data import Splits
from distill.laws.branches import branching, check_study, flops_spent, trunk_config
from distill.laws.config import StudyConfig
from distill.laws.study import (
    MEASURES,
    Point,
    check_measured,
    find_trend,
    held_out,
    held_out_images,
)
from distill.nn.flops import encoder_flops
from distill.parallel import distributed
from distill.parallel.printed import say, verbose
from distill.report.scaling import law_rows, study_header, study_rows, write_scaling_report
from distill.runs.models import with_classes
from distill.runs.pretraining import PretrainConfig
from distill.terminal import text_table
from distill.train.branch import branch_config
from distill.train.workdir import Workdir
from pipelines import pretrain

FLAGS = flags.FlagValues()
define_config(FLAGS)
define_path("workdir", "Directory the study writes to.", FLAGS)
define_verbose(FLAGS)
define_part(FLAGS)
define_process_flags(FLAGS)

# What may change in a study's workdir: sizes can be added, and each run looks after itself.
_MAY_CHANGE = ("sizes", "resamples", "bootstrap_seed")


def run(config: StudyConfig, workdir: Workdir) -> dict[str, Any]:
    """Trains what is missing and returns what summary.json holds; {} but in the primary."""
    splits = config.base.data.open_splits(channels=config.base.model.channels)
    splits.check_all_labelled("pre-training", "config.base.data.source")
    base = with_classes(config.base, len(splits.class_names))
    config = dataclasses.replace(config, base=base)
    check_study(config, splits)
    check_measured(base.evaluations, splits)
    workdir.claim(
        configs.to_dict(config),
        may_change=(*_MAY_CHANGE, *configs.execution_keys(StudyConfig)),
        complete=functools.partial(configs.with_defaults, config),
    )
    points = []
    for number, (name, longest) in enumerate(config.longest().items(), 1):
        say(f"study: size {name}, {number} of {len(config.sizes)}")
        points += _train(name, longest, config.durations, workdir, splits)
    return _conclude(config, workdir, points, splits) if distributed.is_primary() else {}


def _train(
    name: str, longest: PretrainConfig, durations: tuple[int, ...], study: Workdir, splits: Splits
) -> Iterator[Point]:
    """The run without end of one size, and each model that branches off it."""
    begins = branching(longest, durations, len(splits.train))
    trunk = study.below(f"{name}/trunk")
    pretrain.run(trunk_config(longest, begins), trunk, f"{name} trunk")
    flops_per_image = 3 * encoder_flops(longest.model.network().config)
    for total, step in begins.items():
        overrides = {"schedule.cooldown_steps": str(total - step), "train.keep_every": "none"}
        workdir = study.below(f"{name}/{total}")
        branch = branch_config(PretrainConfig, f"{trunk.path}@{step}", overrides, workdir.path)
        trained = pretrain.run(branch, workdir, f"{name} {total}")
        images = total * longest.train.batch_size
        yield Point(
            size=name,
            parameters=trained.summary["parameters"],
            steps=total,
            images=images,
            flops=flops_per_image * images,
            errors=held_out(trained.summary, held_out_images(splits)),
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
        "flops": flops_spent(config, points, splits),
    }
    report = write_scaling_report(workdir.path, points, trends, summary)
    workdir.write_summary(summary)
    print(text_table(study_header(trends), study_rows(points, trends)))
    for trend in trends:
        print(f"\n{trend.measure.replace('_', '-')} on its frontier (*): E = a·(C + d)^−b + c")
        rows = law_rows(trend.fit) if trend.fit else []
        print(text_table(("", "fit", "interval", ""), rows) if rows else trend.problem)
    print(f"\nreport  {report}")
    return summary


def main(arguments: list[str]) -> None:
    """Runs the study the flags name."""
    overrides, rest = split_overrides(arguments)
    parse(FLAGS, rest, required=("config", "workdir"))
    join(FLAGS, workdir=Path(FLAGS.workdir))
    config = configs.resolve(StudyConfig, configs.load_file(FLAGS.config), overrides)
    workdir = workdir_of_parts(FLAGS.workdir, FLAGS.resume_from)
    with telling_parts(workdir.path), verbose(FLAGS.verbose):
        run(config, workdir)


if __name__ == "__main__":
    launch(__doc__, FLAGS, main, schema=StudyConfig, outlives_output=True)
