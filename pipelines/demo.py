"""The whole job in minutes: pre-train a teacher, distil a student, export it, compare.

  distill demo [--workdir=runs/demo]

On scikit-learn's digits. A small ViT-22B-style teacher is pre-trained; a student with at most a
fifth of its parameters is distilled from it; the same student is trained on labels alone for the
same number of steps, as the yardstick. Writes report.html. Run again after it was stopped, it goes
on where it stood. Where TensorFlow is not installed, the student is exported as StableHLO.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import flags

from distill import config as configs
from distill.command.flags import define_path, define_verbose, parse
from distill.command.launch import launch
from distill.command.parts import define_part, telling_parts, workdir_of_parts
from distill.data import Source
from distill.data.examples import readable_views
from distill.export.model import NotInstalled
from distill.export.versions import Version
from distill.parallel import MeshConfig, make_mesh
from distill.parallel.printed import say, verbose
from distill.report.demo import write_demo_report
from distill.runs.distillation import DistillConfig
from distill.runs.opened import open_model
from distill.runs.pretraining import PretrainConfig
from distill.terminal import text_table
from distill.train.progress import format_seconds
from distill.train.workdir import Workdir
from pipelines import distill_student, export, pretrain

FLAGS = flags.FlagValues()
define_path("workdir", "Where everything goes.", FLAGS, default="runs/demo")
define_verbose(FLAGS)
define_part(FLAGS)

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
HEADER = ("model", "parameters", "test accuracy", "agrees with teacher", "images/s", "time")


def run(workdir: Workdir) -> dict[str, Any]:
    """Runs the three trainings and the export; returns what summary.json holds."""
    teacher_config = _resolve(PretrainConfig, "pretrain/digits.py")
    student_config = _resolve(
        DistillConfig,
        "distill/digits.py:embedding",
        {"teacher.workdir": str(workdir.path / "teacher")},
    )
    labels_config = _on_labels(student_config, teacher_config)

    part = workdir.below
    runs = {
        "teacher": pretrain.run(teacher_config, part("teacher"), "teacher"),
        "student": distill_student.run(student_config, part("student"), "student"),
        "labels only": pretrain.run(labels_config, part("labels_only"), "labels only"),
    }
    version = _export(workdir.path / "student")
    difference = max(checked.difference for checked in version.checked)

    source = teacher_config.data.open("test", channels=teacher_config.model.channels)
    predictions = {
        name: _predict(workdir.path / name.replace(" ", "_"), source, teacher_config.data)
        for name in runs
    }
    summary = {
        name: {
            **trained.summary,
            "agreement": float(np.mean(predictions[name] == predictions["teacher"])),
        }
        for name, trained in runs.items()
    } | {"export": {"path": str(version.path), "largest_logit_difference": difference}}
    workdir.write_summary(summary)

    rows = _rows(summary)
    report = write_demo_report(
        workdir.path, HEADER, rows, source, predictions["student"], predictions["teacher"]
    )
    print(f"\n{text_table(HEADER, rows)}")
    print(f"\nexported student  {version.path} (logits agree with JAX to {difference:.1e})")
    print(f"report            {report}")
    return summary


def _resolve(schema: type, file: str, overrides: dict[str, str] | None = None) -> Any:
    return configs.resolve(schema, configs.load_file(str(CONFIGS / file)), overrides or {})


def _on_labels(student: DistillConfig, teacher: PretrainConfig) -> PretrainConfig:
    """The student's run with the teacher's loss on labels in place of function matching."""
    shared = {
        field.name: getattr(student, field.name)
        for field in dataclasses.fields(PretrainConfig)
        if field.name not in ("evals", "loss")
    }
    return PretrainConfig(**shared, loss=teacher.loss)


def _export(student: Path) -> Version:
    """As a SavedModel, or where that cannot be written for what JAX alone runs."""
    try:
        return export.run(student)["saved_model"]
    except NotInstalled as error:
        say(f"demo: exports StableHLO alone: {error}")
        return export.run(student, formats=("stablehlo",))["stablehlo"]


def _predict(workdir: Path, source: Source, data: Any) -> np.ndarray:
    """The class a trained model prefers for each image."""
    opened = open_model(workdir, make_mesh(MeshConfig()))
    network = opened.network
    size = network.config.image_shape[0]
    views = readable_views(source, data.view, size, most=len(source))
    images = np.stack([example["image"] for example in views])
    logits = network.apply(opened.params, network.prepare(jnp.asarray(images))).logits
    return np.asarray(logits).argmax(axis=-1)


def _rows(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            name,
            f"{s['parameters']:,}",
            f"{s['test/accuracy']:.2%}",
            f"{s['agreement']:.2%}",
            f"{s['images_per_second']:,.0f}",
            format_seconds(s["seconds"]),
        )
        for name, s in summary.items()
        if name != "export"
    ]


def main(arguments: list[str]) -> None:
    """Runs the demo."""
    parse(FLAGS, arguments)
    workdir = workdir_of_parts(FLAGS.workdir, FLAGS.resume_from)
    with telling_parts(workdir.path), verbose(FLAGS.verbose):
        run(workdir)


if __name__ == "__main__":
    launch(__doc__, FLAGS, main, outlives_output=True)
