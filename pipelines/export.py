"""Exports a trained model for other programs.

  python pipelines/export.py --workdir=runs/student [--format=saved_model,stablehlo,…]
      [--output=DIR] [--best] [--dtype=bfloat16] [--licence=apache-2.0]

Formats: saved_model (TensorFlow, TF Serving), stablehlo (JAX alone), tflite (float32 and int8;
tflite_float32 or tflite_int8 for one of them), onnx, hf (Hugging Face's
ViTForImageClassification), timm. Each is run in its own runtime, in a process without this
project, on images of the evaluation split, and compared with JAX before it appears. What fails
keeps nothing else from being written. SavedModels are DIR/1, DIR/2, … (TF Serving's layout), the
others DIR/FORMAT/1, …, each with a MODEL_CARD.md.

--push=USER/REPO uploads all of it to Hugging Face's hub in one commit, with the card.

  python pipelines/export.py --weights=weights/vit-base --source=folder:PATH --output=DIR

The same of published weights, compared on images of a data source. Of a pair, a run's too:

  python pipelines/export.py --weights=weights/siglip-base --tower=text --output=DIR

exports the text tower, from ids to embeddings (saved_model, stablehlo, onnx); --tower=image the
image tower, from images to the embeddings that texts are compared with; --tower=pair both, as
Hugging Face's CLIPModel or SiglipModel (--format=hf). A head for segmentation or depth is exported
with the model that it is on, for images of any size (saved_model, stablehlo; onnx: of one --size).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from absl import flags

from distill.command.evaluations import define_images
from distill.command.exports import define_export, read_push, read_size
from distill.command.flags import parse
from distill.command.launch import launch
from distill.command.models import check_output, define_model, read_model
from distill.errors import UserError
from distill.evaluate.split import SplitConfig
from distill.export.hub import Push
from distill.export.model import Tower
from distill.export.prepared import prepare
from distill.export.several import export_all
from distill.export.versions import FORMATS, Version, check_format, nearest_format
from distill.runs.weights import WeightsConfig
from distill.train.workdir import read_config

FLAGS = flags.FlagValues()
define_model(FLAGS, "to export")
define_images(FLAGS)
define_export(FLAGS)


def run(
    model: Path | WeightsConfig,
    output: Path | None = None,
    best: bool = False,
    *,
    formats: Sequence[str] = ("saved_model",),
    dtype: Literal["float32", "bfloat16"] = "float32",
    licence: str = "unknown",
    compared_on: SplitConfig | None = None,
    images: int = 1000,
    tower: Tower | None = None,
    size: tuple[int, int] | None = None,
    push: Push | None = None,
) -> dict[str, Version]:
    """Exports a model, prints what was seen of each export and returns them.

    Args:
      model: the workdir of a run, whose newest checkpoint is taken, or published weights.
      output: directory of the versions; None takes WORKDIR/export.
      best: whether to take the run's best weights instead of its last.
      formats: some of `distill.export.versions.FORMATS`.
      dtype: of parameters and activations of the exports.
      licence: of the weights, for the model card.
      compared_on: images with labels; None takes the evaluation split of the run.
      images: how many of them.
      tower: of a pair; None takes its image tower: as it is published, or of a run "image".
      size: height and width of the images of a head's ONNX; None takes a window's.
      push: uploads what was exported, if all of it was; None leaves it here.

    Raises:
      UserError: before anything is written, for a format that does not take the model or needs
        what is not installed.
      RunFailed: after everything else was written, if something could not be, or differs from JAX.
    """
    unknown = [form for form in formats if form not in FORMATS]
    if unknown or not formats:
        found = f"unknown format {unknown[0]!r}" if unknown else "no format"
        guess = nearest_format(unknown[0]) if unknown else ""
        raise UserError(f"{found}; expected one or more of {', '.join(FORMATS)}{guess}")
    if push is not None:
        push.check()
    compared_on = compared_on or SplitConfig()
    how: Any = dict(best=best, dtype=dtype, compared_on=compared_on, images=images)
    recorded: dict[str, Any] = {}
    if isinstance(model, Path):
        output, recorded = output or model / "export", read_config(model)
    else:
        output = output or (Path(model.path) / "export" if model.of_run else None)
        if output is None or (compared_on.source is None and tower != "text"):
            compared = "" if tower == "text" else ", and --source of images to compare on"
            raise UserError(
                f"{model.called} come without data; give --source of images to compare on"
                if model.of_run
                else f"published weights have neither a workdir nor data; give --output{compared}"
            )
    exported, samples, about = prepare(model, tower, recorded, size=size, **how)
    for form in formats:
        check_format(form, exported)
    about |= {"licence": licence, "checked_on": samples.name}
    versions = export_all(exported, formats, output, samples, about)
    if push is not None:
        push.send(versions)
    return versions


def main(arguments: list[str]) -> None:
    """Exports what the flags name."""
    parse(FLAGS, arguments)
    check_output(FLAGS)
    run(
        read_model(FLAGS),
        Path(FLAGS.output) if FLAGS.output else None,
        FLAGS.best,
        formats=tuple(dict.fromkeys(FLAGS.format)),
        dtype=FLAGS.dtype,
        licence=FLAGS.licence,
        compared_on=SplitConfig(source=FLAGS.source, split=FLAGS.split, class_map=FLAGS.class_map),
        images=FLAGS.images,
        tower=FLAGS.tower,
        size=read_size(FLAGS),
        push=read_push(FLAGS),
    )


if __name__ == "__main__":
    launch(__doc__, FLAGS, main)
