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

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from absl import flags

from distill.command.flags import define_path, parse
from distill.command.launch import launch
from distill.config import resolve
from distill.data import DataConfig
from distill.errors import UserError
from distill.export.about import describe
from distill.export.model import Exportable
from distill.export.samples import open_samples
from distill.export.several import export_all
from distill.export.versions import FORMATS, Version, check_format
from distill.parallel import MeshConfig, make_mesh
from distill.runs.opened import open_model
from distill.train.workdir import read_config

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


def run(
    workdir: Path,
    output: Path | None = None,
    best: bool = False,
    *,
    formats: Sequence[str] = ("saved_model",),
    dtype: Literal["float32", "bfloat16"] = "float32",
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
    opened = open_model(workdir, mesh, best=best, dtype="float32")
    data = resolve(DataConfig, recorded["data"])
    classes, samples = open_samples(data, opened.network.config, images, opened.class_names)
    model = Exportable(
        network=opened.network,
        params=opened.params,
        class_names=classes,
        activation="sigmoid" if recorded.get("loss", {}).get("kind") == "sigmoid" else "softmax",
        dtype=dtype,
        view=opened.view,
    )
    for form in formats:
        check_format(form, model)
    about = describe(workdir, recorded, best) | {"licence": licence, "checked_on": samples.name}
    return export_all(model, formats, output or workdir / "export", samples, about)


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
