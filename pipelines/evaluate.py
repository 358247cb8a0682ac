"""Evaluates a trained model.

  python pipelines/evaluate.py --workdir=runs/student [--split=test] [--source=folder:PATH] [--best]

Prints accuracy, top-5 accuracy, cross-entropy and calibration error; for a distilled student also
its agreement with its teacher.

  python pipelines/evaluate.py --workdir=runs/student --fewshot=1,5,10 --knn=20 --probe

Prints, instead, what classifiers on the model's frozen features reach, whatever classes the model
was trained on: few-shot linear regression, k nearest neighbours, and a linear probe.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags
from jax.sharding import Mesh

from distill.config import resolve
from distill.data import DataConfig
from distill.errors import UserError
from distill.evaluate import Evaluator
from distill.evaluate.features import split_loader
from distill.evaluate.transfer import TransferConfig, TransferEvaluator
from distill.matching.distillation import Teacher, distillation_metrics
from distill.nn import Params
from distill.parallel import MeshConfig, batch_devices, distributed, make_mesh
from distill.train.progress import format_figure, say
from distill.train.workdir import read_config
from pipelines.launch import define_process_flags, join, launch, parse
from pipelines.models import load_model
from pipelines.teacher_models import load_teachers, recorded_teachers

FLAGS = flags.FlagValues()
flags.DEFINE_string("workdir", None, "Of the run to evaluate.", flag_values=FLAGS)
flags.DEFINE_bool(
    "best", False, "The weights kept by config.train.keep_best, not the last.", flag_values=FLAGS
)
flags.DEFINE_string("split", None, "The run's test split if not given.", flag_values=FLAGS)
flags.DEFINE_string("source", None, "The run's own data if not given.", flag_values=FLAGS)
flags.DEFINE_list(
    "classes", [], "Only images of these; if not given, all, or the run's.", flag_values=FLAGS
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
    workdir: Path,
    split: str | None = None,
    source: str | None = None,
    batch_size: int = 256,
    classes: tuple[str, ...] = (),
    best: bool = False,
) -> dict[str, float]:
    """Evaluates the newest checkpoint's classifier; returns and prints the metrics.

    Args:
      workdir: of the run.
      split: None takes the run's test split.
      source: None takes the run's own data.
      batch_size: over all devices.
      classes: those the model distinguishes, in its order; empty takes the run's.
      best: whether to take the run's best weights instead of its last.
    """
    recorded, data, split, mesh = _open(workdir, split, batch_size)
    data = dataclasses.replace(
        data, eval_source=source or data.eval_source, classes=classes or data.classes
    )
    network, params = load_model(workdir, mesh, best=best)
    teachers, teacher_params = _load_teachers(recorded, mesh)
    networks = (network, *(teacher.network for teacher in teachers.values()))
    view_size = max(side for one in networks for side in one.config.image_shape[:2])
    per_example = distillation_metrics(network, teachers)
    images = data.open_evaluation(split, channels=network.config.channels)
    if len(images.class_names) != network.config.num_classes:
        raise UserError(
            f"the model in {workdir} has {network.config.num_classes} classes, but "
            f"{data.evaluation_source} has {len(images.class_names)}; --fewshot, --knn and --probe "
            "ask for features alone"
        )
    batches = split_loader(images, data, mesh, size=view_size, batch_size=batch_size)
    metrics = Evaluator(split, batches, per_example)(params, teacher_params)
    if distributed.is_primary():
        width = max(map(len, metrics))
        print(f"{len(images):,} images of {data.evaluation_source}")
        for name, value in metrics.items():
            print(f"{name:<{width}}  {format_figure(name, value)}")
    return metrics


def _load_teachers(
    recorded: dict[str, Any], mesh: Mesh
) -> tuple[dict[str, Teacher], dict[str, Params]]:
    """The run's teachers, if it had any and they are still there."""
    try:
        return load_teachers(recorded_teachers(recorded), mesh)
    except UserError as error:
        say(f"nothing is compared with the teacher: {error}")
        return {}, {}


def run_transfer(
    workdir: Path, config: TransferConfig, batch_size: int = 256, best: bool = False
) -> dict[str, float]:
    """Evaluates the newest checkpoint's features; returns and prints the metrics.

    Args:
      workdir: of the run.
      config: what to measure; without a test_split, the run's test split is classified.
      batch_size: over all devices.
      best: whether to take the run's best weights instead of its last.
    """
    _, data, split, mesh = _open(workdir, config.test_split, batch_size)
    network, params = load_model(workdir, mesh, best=best)
    config = dataclasses.replace(config, test_split=split)
    evaluator = TransferEvaluator(config, data, network, batch_size=batch_size)
    metrics = evaluator(params)
    if distributed.is_primary():
        names = config.sources or (data.evaluation_source,)
        for name, task in zip(names, evaluator.tasks.values(), strict=True):
            print(
                f"{len(task.test):,} images of {name}, {len(task.test.class_names)} classes; "
                f"{len(task.train):,} images to learn from"
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
    width = max(map(len, rows))
    lines = [(" " * width, columns)] if columns != [""] else []
    lines += [(f"{name:<{width}}", [row.get(c, "") for c in columns]) for name, row in rows.items()]
    return "\n".join(
        "".join([name, *(f"{cell:>10}" for cell in cells)]).rstrip() for name, cells in lines
    )


def _open(
    workdir: Path, split: str | None, batch_size: int
) -> tuple[dict[str, Any], DataConfig, str, Mesh]:
    """The run's config as recorded, its data, the split to evaluate on, and a mesh."""
    recorded = read_config(workdir)
    data = resolve(DataConfig, recorded["data"])
    split = split or data.test_split or data.validation_split
    if split is None:
        raise UserError(f"the run in {workdir} has neither test nor validation split; give --split")
    distributed.check_joined()
    try:
        mesh = make_mesh(MeshConfig(data=1, fsdp=-1))
    except ValueError as error:
        raise UserError(f"evaluation runs on one TPU slice: {error}") from error
    if batch_size % batch_devices(mesh):
        raise UserError(f"--batch_size={batch_size} is not divisible by {mesh.size} devices")
    return recorded, data, split, mesh


def _numbers(flag: str) -> tuple[int, ...]:
    for text in FLAGS[flag].value:
        if not text.isdecimal():
            raise UserError(f"--{flag} has {text!r}; expected numbers such as 1,5,10")
    return tuple(map(int, FLAGS[flag].value))


def main(arguments: list[str]) -> None:
    """Evaluates what the flags name."""
    parse(FLAGS, arguments, required=("workdir",))
    join(FLAGS)
    workdir, classes = Path(FLAGS.workdir), tuple(FLAGS.classes)
    if not (FLAGS.fewshot or FLAGS.knn or FLAGS.probe):
        if FLAGS.train_split:
            raise UserError("--train_split is for --fewshot, --knn and --probe; add one of them")
        run(workdir, FLAGS.split, FLAGS.source, FLAGS.batch_size, classes, FLAGS.best)
        return
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
    run_transfer(workdir, config, FLAGS.batch_size, FLAGS.best)


if __name__ == "__main__":
    launch(__doc__, FLAGS, main)
