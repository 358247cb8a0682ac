r"""Says what a model makes of images: on the terminal, or in a file.

  distill predict MODEL IMAGE… | FOLDER [--top=3] [--output=FILE] [--embeddings]

prints the most probable classes of each image. MODEL is the workdir of a run, published weights,
or an export, which runs in its own runtime: TensorFlow, JAX, TensorFlow Lite or ONNX Runtime.
Images are prepared as the model is evaluated. --output writes .csv, .json, .jsonl, .npz or
.parquet; --embeddings writes those instead, to .npz or .parquet.

  python pipelines/predict.py --workdir=runs/student --output=student.npz [--split=test]
  python pipelines/predict.py --weights=weights/dinov2-base --source=images:PATH \
      --output=predictions.parquet

writes what a model says of a split of a data source, for evaluations that need no model: logits,
the images' names, their labels, and the names of the model's classes (docs/predictions.md). An
image whose class the model does not have gets the label -1, and keeps the name of its class. The
same command goes on where it was interrupted.

  python pipelines/evaluate.py --predictions=student.npz \
      --config.evals.sure.kind=calibration
"""

from pathlib import Path

from absl import flags

from distill.bounds import CropShare, Some
from distill.command.flags import define_number, define_path, define_source, parse_some
from distill.command.launch import launch
from distill.command.models import define_model, define_reading, read_model, read_pairs
from distill.command.processes import define_process_flags, join
from distill.errors import UserError
from distill.evaluate.of_images import OfImagesConfig
from distill.runs.predicted import predict as run
from distill.serving.asking import ask

FLAGS = flags.FlagValues()
define_model(FLAGS, "whose model predicts")
define_reading(FLAGS)
define_path("output", "File to write; .npz or .parquet of a data source.", FLAGS)
define_source(
    "source", "Such as digits, folder:PATH or tfds:NAME; the run's own if not given.", FLAGS
)
flags.DEFINE_string(
    "split", None, "The run's test split if not given; of images:PATH, train.", flag_values=FLAGS
)
define_number(
    "crop",
    "Side of the central crop over that of the resized image's shorter side; the model's own if "
    "not given, as for --resize.",
    FLAGS,
    CropShare,
)
flags.DEFINE_enum("resize", None, ["shortest", "squash"], "How.", flag_values=FLAGS)
define_number("top", "Classes of each image, the most probable.", FLAGS, Some, 3)
flags.DEFINE_bool("embeddings", False, "In place of classes, of IMAGE.", flag_values=FLAGS)
define_process_flags(FLAGS)

# Of a data source, which images named one by one are not.
_OF_SOURCES = (
    "workdir",
    "weights",
    "source",
    "split",
    "crop",
    "resize",
    "data_dir",
    "max_corrupt_share",
)


def main(arguments: list[str]) -> None:
    """Says or writes what the arguments ask for."""
    named = parse_some(FLAGS, arguments)
    if named:
        _ask(named)
        return
    if FLAGS.output is None:
        raise UserError("--output needs a value: --output=VALUE\nSee --help")
    for flag in ("top", "embeddings"):
        if FLAGS[flag].present:
            raise UserError(f"--{flag} is for distill predict MODEL IMAGE…; leave it out")
    join(FLAGS)
    split = FLAGS.split or ("train" if (FLAGS.source or "").startswith("images:") else None)
    try:
        images = OfImagesConfig(
            source=FLAGS.source, split=split, crop=FLAGS.crop, resize=FLAGS.resize
        )
    except ValueError as error:
        raise UserError(f"{error}\nSee --help") from error
    run(
        read_model(FLAGS),
        images,
        Path(FLAGS.output),
        batch_size=FLAGS.batch_size,
        best=FLAGS.best,
        data_dir=FLAGS.data_dir,
        max_corrupt_share=FLAGS.max_corrupt_share,
    )


def _ask(named: list[str]) -> None:
    model, *images = named
    if given := [name for name in _OF_SOURCES if FLAGS[name].present]:
        raise UserError(
            f"--{given[0]} is for a data source, and {model!r} an argument without a flag; give "
            "distill predict MODEL IMAGE…, or flags alone\nSee --help"
        )
    if not images:
        raise UserError(f"expected images: distill predict {model} IMAGE… | FOLDER\nSee --help")
    ask(
        model,
        images,
        Path(FLAGS.output) if FLAGS.output else None,
        top=FLAGS.top,
        embeddings=FLAGS.embeddings,
        **read_pairs(FLAGS),
        batch_size=FLAGS.batch_size,
        best=FLAGS.best,
        image_size=FLAGS.image_size,
    )


if __name__ == "__main__":
    launch(__doc__, FLAGS, main, batch="--batch_size")
