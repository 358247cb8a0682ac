"""Exports a trained model for other programs.

  python pipelines/export.py --workdir=runs/student [--format=saved_model,stablehlo,…]
      [--output=DIR] [--best] [--dtype=bfloat16] [--licence=apache-2.0]

Formats: saved_model (TensorFlow, TF Serving), stablehlo (JAX alone), tflite (float32 and int8;
tflite_float32 or tflite_int8 for one of them), onnx, hf (Hugging Face's
ViTForImageClassification), timm. Each is run in its own runtime, in a process without this
project, on images of the evaluation split, and compared with JAX before it appears. What fails
keeps nothing else from being written. SavedModels are DIR/1, DIR/2, … (TF Serving's layout), the
others DIR/FORMAT/1, …, each with a MODEL_CARD.md.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from distill.command.flags import define_path, parse
from distill.command.launch import launch
from distill.config import resolve
from distill.data import DataConfig, Source, Subset
from distill.data.classes import Names, among, numbered
from distill.data.examples import readable_views
from distill.errors import RunFailed, UserError
from distill.export.model import Exportable
from distill.export.verify import Samples, Verifier
from distill.export.versions import FORMATS, Version, check_format, export_version, table
from distill.nn import ViTConfig
from distill.parallel import MeshConfig, make_mesh
from distill.runs.models import load_model, without_execution
from distill.runs.teachers import teachers_of
from distill.runs.weights import described_network
from distill.train import best as best_weights
from distill.train.progress import format_figure, say
from distill.train.workdir import read_classes, read_config, read_summary

FLAGS = flags.FlagValues()
define_path("workdir", "Of the run to export.", FLAGS)
flags.DEFINE_list(
    "format", ["saved_model"], f"One or more of {', '.join(FORMATS)}.", flag_values=FLAGS
)
define_path("output", "Directory of the versions; WORKDIR/export if not given.", FLAGS)
flags.DEFINE_bool(
    "best", False, "The weights kept by config.train.keep_best, not the last.", flag_values=FLAGS
)
flags.DEFINE_enum(
    "dtype",
    "float32",
    ["float32", "bfloat16"],
    "Of parameters and activations.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "licence", "unknown", "Of the weights, for the model card: an SPDX name.", flag_values=FLAGS
)
flags.DEFINE_integer(
    "images",
    1000,
    "Of the evaluation split to compare on, evenly spread; all where there are fewer.",
    1,
    flag_values=FLAGS,
)

# Sections of a config that make up the recipe on a model card.
_RECIPE = ("data.view", "optimizer", "schedule", "matching", "loss")


def run(
    workdir: Path,
    output: Path | None = None,
    best: bool = False,
    *,
    formats: Sequence[str] = ("saved_model",),
    dtype: str = "float32",
    licence: str = "unknown",
    images: int = 1000,
) -> dict[str, Version]:
    """Exports the newest checkpoint, prints what was seen of each export and returns them.

    Args:
      workdir: of the run.
      output: directory of the versions; None takes WORKDIR/export.
      best: whether to take the run's best weights instead of its last.
      formats: some of `distill.export.versions.FORMATS`.
      dtype: of parameters and activations of the exports.
      licence: of the weights, for the model card.
      images: how many of the evaluation split to compare on.

    Raises:
      UserError: before anything is written, for a format that does not take the model or needs
        what is not installed.
      RunFailed: after everything else was written, if something could not be, or differs from JAX.
    """
    unknown = [form for form in formats if form not in FORMATS]
    if unknown or not formats:
        found = f"unknown format {unknown[0]!r}" if unknown else "no format"
        raise UserError(f"{found}; expected one or more of {', '.join(FORMATS)}")
    recorded = read_config(workdir)
    mesh = make_mesh(MeshConfig(data=1, fsdp=-1))
    network, params = load_model(workdir, mesh, best=best, dtype="float32")
    data = resolve(DataConfig, recorded["data"])
    names = read_classes(workdir)
    classes, samples = _samples(data, network.config, images, names)
    model = Exportable(
        network=network,
        params=params,
        class_names=classes,
        activation="sigmoid" if recorded.get("loss", {}).get("kind") == "sigmoid" else "softmax",
        dtype=dtype,
        view=data.view.evaluation,
    )
    for form in formats:
        check_format(form, model)
    about = describe(workdir, recorded, best) | {"licence": licence, "checked_on": samples.name}
    return _export_all(model, formats, output or workdir / "export", samples, about)


def _export_all(
    model: Exportable,
    formats: Sequence[str],
    directory: Path,
    samples: Samples,
    about: Mapping[str, Any],
) -> dict[str, Version]:
    """Exports in each format, whatever becomes of the others, and prints what was seen."""
    verifier = Verifier(model, samples)
    accuracy = verifier.accuracy
    versions, failed = {}, []
    try:
        for form in formats:
            # TF Serving looks for versions right in a model's directory.
            place = directory if form == "saved_model" else directory / form
            try:
                versions[form] = export_version(model, form, place, verifier, about)
            except UserError as error:
                failed.append(error)
            else:
                failed.extend(versions[form].failed)
                print(f"exported {versions[form].path}")
    finally:
        if versions:
            right = "" if accuracy is None else f" (accuracy {accuracy:.2%})"
            print(f"compared with JAX{right} on {samples.name}; times on this machine's CPU:\n")
            print(table([checked for one in versions.values() for checked in one.checked]))
    if failed:
        raise _incomplete(versions, failed)
    return versions


def _incomplete(versions: Mapping[str, Version], failed: Sequence[UserError]) -> UserError:
    """Says what was exported and what was not."""
    said = "\n".join(str(error) for error in failed)
    if not versions:
        ran = any(isinstance(error, RunFailed) for error in failed)
        return (RunFailed if ran else UserError)(f"{said}\nNothing was exported")
    written = [
        f"{checked.name} ({version.path})"
        for version in versions.values()
        for checked in version.checked
    ]
    return RunFailed(f"{said}\nThe rest was exported: {', '.join(written)}")


def describe(workdir: Path, recorded: Mapping[str, Any], best: bool) -> dict[str, Any]:
    """Where a trained model comes from, as its export's card tells it."""
    summary = read_summary(workdir) or {}
    folder = workdir / (best_weights.FOLDER if best else "checkpoints")
    step = max((int(path.name) for path in folder.iterdir() if path.name.isdigit()), default=None)
    weights, metrics = "last", {name: value for name, value in summary.items() if "/" in name}
    if best:
        metric, value = best_weights.kept_by(workdir, step)
        weights, metrics = f"best by {metric}", {metric: value}
    data, train = resolve(DataConfig, recorded["data"]), recorded["train"]
    recipe = {
        key: value
        for section in _RECIPE
        for key, value in _flat(recorded, section)
        # Terms that a loss does not have.
        if value or not key.startswith("matching.losses.")
    }
    # What it is, and not how its run executed it: as fingerprints take it.
    model = without_execution(recorded["model"])
    return {
        "name": workdir.resolve().name,
        "workdir": str(workdir),
        "step": step,
        "weights": weights,
        "model": model,
        "data": {
            "trained on": f"{data.source}, split {data.train_split}"
            + (f", {data.train_images} of its images" if data.train_images else ""),
            "evaluated on": _evaluated_on(data),
            "classes": ", ".join(data.classes),
        },
        "recipe": {
            "steps": summary.get("steps"),
            "images a step": train["batch_size"],
            "seed": recorded["seed"],
            **recipe,
        },
        "metrics": {name: format_figure(name, value) for name, value in metrics.items()},
        "teachers": {
            name: _known(teacher) for name, teacher in teachers_of(workdir, recorded).items()
        },
        "targets": recorded.get("targets"),
        "start": recorded.get("start"),
        "branched_from": recorded.get("branch_from"),
    }


def _evaluated_on(data: DataConfig) -> str | None:
    named = {"val": data.validation_split, "test": data.test_split}
    splits = [f"split {split} ({prefix}/)" for prefix, split in named.items() if split]
    return ", ".join([data.evaluation_source, *splits]) if splits else None


def _known(teacher: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a teacher, and how large it is where its model is."""
    known = {key: value for key, value in teacher.items() if value is not None}
    if "model" in known:
        known["parameters"] = described_network(known["model"]).parameter_count()
    return known


def _flat(recorded: Mapping[str, Any], section: str) -> list[tuple[str, Any]]:
    """The keys of a section, such as `data.view`, with their values, as in config.section.key."""

    def walk(value, name):
        if isinstance(value, dict):
            for key, part in value.items():
                yield from walk(part, f"{name}.{key}")
        else:
            yield name, value

    found = recorded
    for key in section.split("."):
        found = found.get(key) or {}
    return list(walk(found, section))


def _samples(data: DataConfig, config: ViTConfig, most: int, names: Names) -> tuple[Names, Samples]:
    """Class names, and images of the evaluation split, or else of the training images.

    Args:
      data: of the run.
      config: of the model.
      most: how many images.
      names: of the model's classes; empty where the run did not record them.
    """
    split = data.test_split or data.validation_split
    if split is None:
        source, split, name = (
            data.open(data.train_split, channels=config.channels),
            None,
            data.source,
        )
    else:
        source, name = data.open_evaluation(split, channels=config.channels), data.evaluation_source
    labels, names = _labels(source, names, config.num_classes, name, data.in_order)
    spread = np.linspace(0, len(source) - 1, min(most, len(source))).astype(np.int64)
    chosen = Subset(source, spread)
    size = config.image_shape[0]
    examples = list(readable_views(chosen, data.view, size, most=len(chosen)))
    if not examples:
        raise UserError(f"no image of {name} can be decoded")
    if labels is not None:
        labels = labels[spread[[example["index"] for example in examples]]]
    samples = Samples(
        np.stack([example["image"] for example in examples]),
        labels if labels is not None and (labels >= 0).all() else None,
        f"{len(examples):,} images of {name}, split {split or data.train_split}",
    )
    return names, samples


def _labels(
    source: Source, names: Names, count: int, name: str, in_order: bool
) -> tuple[np.ndarray | None, Names]:
    """The images' labels as a model numbers them, if it does, and the names of its classes."""
    if count and not names and len(source.class_names) == count:
        say(f"warning: the run did not record its classes; they are taken to be those of {name}")
        names = source.class_names
    labels = None
    if names and source.class_names:
        try:
            shown = numbered(source, names, shown=name, whose="the model", in_order=in_order)
            labels = shown.labels if among(shown) is None else None
        except UserError as error:
            say(
                f"warning: the classes are called as in training, and no accuracy is given. {error}"
            )
    # A student may have been distilled without labels, from a teacher that names no classes.
    return labels, names or tuple(map(str, range(count)))


def main(arguments: list[str]) -> None:
    """Exports what the flags name."""
    parse(FLAGS, arguments, required=("workdir",))
    run(
        Path(FLAGS.workdir),
        Path(FLAGS.output) if FLAGS.output else None,
        FLAGS.best,
        formats=tuple(dict.fromkeys(FLAGS.format)),
        dtype=FLAGS.dtype,
        licence=FLAGS.licence,
        images=FLAGS.images,
    )


if __name__ == "__main__":
    launch(__doc__, FLAGS, main)
