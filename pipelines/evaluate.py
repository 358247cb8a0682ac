"""Evaluates a trained model.

  python pipelines/evaluate.py --workdir=runs/student [--split=test] [--source=folder:PATH] [--best]

Prints accuracy, top-5 accuracy, cross-entropy and calibration error; for a distilled student also
its agreement with its teacher.

  python pipelines/evaluate.py --workdir=runs/student --fewshot=1,5,10 --knn=20 --probe

Prints, instead, what classifiers on the model's frozen features reach, whatever classes the model
was trained on: few-shot linear regression, k nearest neighbours, and a linear probe.

  python pipelines/evaluate.py --weights=weights/dinov2-base --source=folder:PATH --knn=20

The same of published weights, before they teach.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from absl import flags

from distill.command.flags import define_path, define_process_flags, define_source, join, parse
from distill.command.launch import launch
from distill.data import DataConfig, Source
from distill.data.classes import (
    IN_ORDER,
    all_chosen,
    among,
    calls,
    map_or_order,
    numbered,
    pairs,
    present,
)
from distill.data.sources import abbreviate
from distill.errors import UserError
from distill.evaluate import Evaluator
from distill.evaluate.features import split_loader
from distill.evaluate.transfer import TransferConfig, TransferEvaluator
from distill.nn import Params
from distill.parallel import distributed
from distill.paths import local_or_remote_path
from distill.runs.subject import Subject, open_subject
from distill.runs.teachers import (
    load_teachers,
    match_classes,
)
from distill.runs.weights import WeightsConfig
from distill.tasks.matching.function_matching import Teacher, distillation_metrics
from distill.train.progress import format_figure, say

FLAGS = flags.FlagValues()
define_path("workdir", "Of the run to evaluate.", FLAGS)
define_path(
    "weights",
    "Published weights instead of a workdir: a file, or the directory that holds it.",
    FLAGS,
)
flags.DEFINE_integer(
    "image_size",
    None,
    "In pixels, of published weights; what they are published for if not given.",
    1,
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "best", False, "The weights kept by config.train.keep_best, not the last.", flag_values=FLAGS
)
flags.DEFINE_string("split", None, "The run's test split if not given.", flag_values=FLAGS)
define_source("source", "digits, folder:PATH or tfds:NAME; the run's own data if not given.", FLAGS)
define_path(
    "data_dir",
    "Where TFDS keeps its data sets; the run's or TFDS's default if not given.",
    FLAGS,
    read=local_or_remote_path,
)
flags.DEFINE_list(
    "classes",
    [],
    "Only images of these; if not given, all, or the run's. As many as the model's, but called "
    "otherwise, they are taken to be in the model's order.",
    flag_values=FLAGS,
)
define_path(
    "class_map",
    "JSON file {class of the data: class of the model}, or in_order: the data's classes are the "
    "model's, one after the other, whatever they are called.",
    FLAGS,
    read=map_or_order,
)
flags.DEFINE_list("fewshot", [], "Images per class, such as 1,5,10,25.", flag_values=FLAGS)
flags.DEFINE_list("knn", [], "Neighbours that vote, such as 20.", flag_values=FLAGS)
flags.DEFINE_bool("probe", False, "Logistic regression on all features.", flag_values=FLAGS)
flags.DEFINE_string(
    "train_split",
    None,
    "Of shots, neighbours and the probe's images; the run's train split if not given.",
    flag_values=FLAGS,
)
flags.DEFINE_list("seeds", ["0", "1", "2"], "Each draws other shots.", flag_values=FLAGS)
flags.DEFINE_integer("batch_size", 256, "Over all devices.", 1, flag_values=FLAGS)
define_process_flags(FLAGS)


def run(
    model: Path | WeightsConfig,
    split: str | None = None,
    source: str | None = None,
    batch_size: int = 256,
    classes: tuple[str, ...] = (),
    best: bool = False,
    class_map: str | None = None,
    data_dir: str | None = None,
) -> dict[str, float]:
    """Evaluates a classifier; returns and prints the metrics.

    Args:
      model: the workdir of a run, whose newest checkpoint is taken, or published weights.
      split: None takes the run's test split.
      source: None takes the run's own data.
      batch_size: over all devices.
      classes: only images of these; empty takes the run's. If they are as many as the model's but
        called otherwise, they are in the model's order.
      best: whether to take the run's best weights instead of its last.
      class_map: see `DataConfig`; None takes the run's, unless there is a `source`.
      data_dir: see `DataConfig`; None takes the run's.
    """
    subject = open_subject(model, split, source, batch_size, best, data_dir)
    network, data = subject.network, subject.data
    try:
        if class_map or source:
            data = dataclasses.replace(data, class_map=class_map)
        if classes or class_map == IN_ORDER:
            data = dataclasses.replace(data, classes=classes)
    except ValueError as error:
        raise UserError(f"{error}\nSee --help") from error
    images = _numbered(
        data.open_evaluation(subject.split, channels=network.config.channels),
        subject,
        data,
    )
    teachers, teacher_params = _load_teachers(subject)
    teachers = match_classes(
        teachers,
        images.class_names,
        compared=False,
        in_order=data.in_order or all_chosen(images),
    )
    networks = (network, *(teacher.network for teacher in teachers.values()))
    view_size = max(side for one in networks for side in one.config.image_shape[:2])
    per_example = distillation_metrics(network, teachers, among=among(images))
    batches = split_loader(
        images,
        data,
        subject.mesh,
        size=view_size,
        batch_size=batch_size,
        view=subject.view,
    )
    evaluator = Evaluator(subject.split, batches, per_example)
    metrics = evaluator(subject.params, teacher_params)
    if distributed.is_primary():
        width = max(map(len, metrics), default=0)
        left_out = len(images) - evaluator.counted
        note = f" ({left_out:,} that cannot be decoded left out)" if left_out else ""
        print(f"{evaluator.counted:,} images of {data.evaluation_source}{note}")
        say(f"{subject.split}: {images.found}")
        for name, value in metrics.items():
            print(f"{name:<{width}}  {format_figure(name, value)}")
    return metrics


def _numbered(images: Source, subject: Subject, data: DataConfig) -> Source:
    """The images with the model's numbers for their classes.

    Raises:
      UserError: if the model does not have their classes.
    """
    count, names = subject.network.config.num_classes, subject.class_names
    whose, shown = f"the model in {subject.place}", data.evaluation_source
    if not count or (not names and count != len(images.class_names)):
        raise UserError(
            f"{whose} has {count or 'no'} classes, but {shown} has {len(images.class_names)}; "
            "--fewshot, --knn and --probe ask for features alone"
        )
    if not names:
        say(
            f"warning: nothing says what {whose} calls its {count} classes; they are taken to be "
            f"in the order of the data's, {abbreviate(images.class_names)}"
        )
        return images
    found = numbered(images, names, shown=shown, whose=whose, in_order=data.in_order)
    if called := calls(found):
        say(f"classes of {shown} are taken for the model's: {pairs(called)}")
    if len(present(found)) == 1:
        say(f"warning: {shown} has one class only, {present(found)[0]!r}: nothing to tell apart")
    if some := among(found):
        say(f"{shown} has {len(some)} of the model's {count} classes: evaluated among those alone")
    return found


def _load_teachers(subject: Subject) -> tuple[dict[str, Teacher], dict[str, Params]]:
    """The run's teachers, if it had any and they are still there."""
    try:
        return load_teachers(subject.teachers, subject.mesh)
    except UserError as error:
        say(f"nothing is compared with the teacher: {error}")
        return {}, {}


def run_transfer(
    model: Path | WeightsConfig,
    config: TransferConfig,
    batch_size: int = 256,
    best: bool = False,
    data_dir: str | None = None,
) -> dict[str, float]:
    """Evaluates a model's features; returns and prints the metrics.

    Args:
      model: the workdir of a run, whose newest checkpoint is taken, or published weights.
      config: what to measure; without a test_split, the run's test split is classified. Published
        weights have no data of their own, so that `sources` names it.
      batch_size: over all devices.
      best: whether to take the run's best weights instead of its last.
      data_dir: see `DataConfig`; None takes the run's.
    """
    subject = open_subject(model, config.test_split, None, batch_size, best, data_dir)
    config = dataclasses.replace(config, test_split=subject.split)
    evaluator = TransferEvaluator(
        config, subject.data, subject.network, batch_size=batch_size, view=subject.view
    )
    metrics = evaluator(subject.params)
    if distributed.is_primary() and metrics:
        names = config.sources or (subject.data.evaluation_source,)
        for name, task in zip(names, evaluator.tasks.values(), strict=True):
            print(
                f"{task.counted.test:,} images of {name}, {len(task.test.class_names)} classes; "
                f"{task.counted.train:,} images to learn from"
            )
        print(transfer_table(metrics))
    return metrics


def transfer_table(metrics: Mapping[str, float]) -> str:
    """A line for each metric; of those drawn with several seeds, the mean and each seed's."""
    rows: dict[str, dict[str, str]] = {}
    for name, value in metrics.items():
        whole, _, seed = name.partition("/seed")
        column = f"seed {seed}" if seed else ""
        rows.setdefault(whole, {})[column] = format_figure(name, value)
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    width = max(map(len, rows), default=0)
    lines = [(" " * width, columns)] if any(columns) else []
    lines += [(f"{name:<{width}}", [row.get(c, "") for c in columns]) for name, row in rows.items()]
    return "\n".join(
        "".join([name, *(f"{cell:>10}" for cell in cells)]).rstrip() for name, cells in lines
    )


def _model() -> Path | WeightsConfig:
    """What the flags name.

    Raises:
      UserError: if they do not go together.
    """
    if (FLAGS.workdir is None) == (FLAGS.weights is None):
        raise UserError(
            "give one of --workdir, of a run, and --weights, of a published model\nSee --help"
        )
    if FLAGS.weights is None:
        if FLAGS.image_size:
            raise UserError("--image_size is for --weights; a run's model has one already")
        return Path(FLAGS.workdir)
    if FLAGS.best:
        raise UserError("--best is for --workdir; published weights are one set")
    if FLAGS.source is None:
        raise UserError("published weights come without data; give --source")
    return WeightsConfig(path=FLAGS.weights, image_size=FLAGS.image_size)


def _numbers(flag: str) -> tuple[int, ...]:
    for text in FLAGS[flag].value:
        if not text.isdecimal():
            raise UserError(f"--{flag} has {text!r}; expected numbers such as 1,5,10")
    return tuple(map(int, FLAGS[flag].value))


def main(arguments: list[str]) -> None:
    """Evaluates what the flags name."""
    parse(FLAGS, arguments)
    join(FLAGS)
    model, classes = _model(), tuple(FLAGS.classes)
    if not (FLAGS.fewshot or FLAGS.knn or FLAGS.probe):
        if FLAGS.train_split:
            raise UserError("--train_split is for --fewshot, --knn and --probe; add one of them")
        run(
            model,
            FLAGS.split,
            FLAGS.source,
            FLAGS.batch_size,
            classes,
            FLAGS.best,
            FLAGS.class_map,
            FLAGS.data_dir,
        )
        return
    if FLAGS.class_map:
        raise UserError(
            "--class_map is for a model's own classes; --fewshot, --knn and --probe "
            "learn the data's"
        )
    try:
        config = TransferConfig(
            sources=(FLAGS.source,) if FLAGS.source else (),
            classes=classes,
            train_split=FLAGS.train_split,
            test_split=FLAGS.split,
            shots=_numbers("fewshot"),
            seeds=_numbers("seeds"),
            neighbours=_numbers("knn"),
            probe=FLAGS.probe,
        )
    except ValueError as error:
        raise UserError(f"{error}\nSee --help") from error
    run_transfer(model, config, FLAGS.batch_size, FLAGS.best, FLAGS.data_dir)


if __name__ == "__main__":
    launch(__doc__, FLAGS, main, batch="--batch_size")
