"""Evaluates a trained model.

  python pipelines/evaluate.py --workdir=runs/student [--split=test] [--source=folder:PATH]

Prints accuracy, top-5 accuracy and cross-entropy; for a distilled student also its agreement
with its teacher.
"""

import dataclasses
import functools
from pathlib import Path

from absl import flags

from distill.config import resolve
from distill.data import DataConfig, EvalLoader
from distill.errors import UserError
from distill.evaluate import Evaluator, classification_metrics
from distill.matching.distillation import distillation_metrics
from distill.parallel import (
    MeshConfig,
    batch_devices,
    distributed,
    local_rows,
    make_mesh,
    put_batch,
)
from distill.train.workdir import read_config
from pipelines.launch import define_process_flags, join, launch, parse
from pipelines.models import load_model

FLAGS = flags.FlagValues()
flags.DEFINE_string("workdir", None, "Of the run to evaluate.", flag_values=FLAGS)
flags.DEFINE_string("split", None, "The run's test split if not given.", flag_values=FLAGS)
flags.DEFINE_string("source", None, "The run's own data if not given.", flag_values=FLAGS)
flags.DEFINE_integer("batch_size", 256, "Over all devices.", 1, flag_values=FLAGS)
define_process_flags(FLAGS)


def run(
    workdir: Path, split: str | None = None, source: str | None = None, batch_size: int = 256
) -> dict[str, float]:
    """Evaluates the newest checkpoint on a split; returns and prints the metrics."""
    recorded = read_config(workdir)
    data = resolve(DataConfig, recorded["data"])
    data = dataclasses.replace(data, source=source or data.source)
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

    network, params = load_model(workdir, mesh)
    per_example, teacher_params, size = classification_metrics(network), None, network.config
    view_size = max(size.image_shape[:2])
    if "teacher" in recorded:
        teacher, teacher_params = load_model(
            Path(recorded["teacher"]["workdir"]),
            mesh,
            step=recorded["teacher"]["step"],
            dtype=recorded["teacher"]["dtype"],
        )
        per_example = distillation_metrics(network, teacher)
        view_size = max(view_size, *teacher.config.image_shape[:2])
    images = data.open(split, channels=network.config.channels)
    if len(images.class_names) != network.config.num_classes:
        raise UserError(
            f"the model in {workdir} has {network.config.num_classes} classes, but {data.source} "
            f"has {len(images.class_names)}"
        )
    batches = EvalLoader(
        images,
        data,
        size=view_size,
        batch_size=batch_size,
        put=functools.partial(put_batch, mesh, size=batch_size),
        rows=local_rows(mesh, batch_size),
    )
    metrics = Evaluator(split, batches, per_example)(params, teacher_params)
    if distributed.is_primary():
        width = max(map(len, metrics))
        print(f"{len(images):,} images of {data.source}")
        for name, value in metrics.items():
            print(f"{name:<{width}}  {value:.4f}")
    return metrics


def main(arguments: list[str]) -> None:
    """Evaluates what the flags name."""
    parse(FLAGS, arguments, required=("workdir",))
    join(FLAGS)
    run(Path(FLAGS.workdir), FLAGS.split, FLAGS.source, FLAGS.batch_size)


if __name__ == "__main__":
    launch(__doc__, FLAGS, main)
