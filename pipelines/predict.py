r"""Writes what a model says of images into a file, for evaluations that need no model.

  python pipelines/predict.py --workdir=runs/student --output=student.npz [--split=test]
  python pipelines/predict.py --weights=weights/dinov2-base --source=images:PATH \
      --output=predictions.parquet

The file holds logits, the images' names, their labels, and the names of the model's classes
(docs/predictions.md). An image whose class the model does not have gets the label -1, and keeps the
name of its class. The same command goes on where it was interrupted.

  python pipelines/evaluate.py --predictions=student.npz \
      --config.evals.sure.kind=calibration
"""

from pathlib import Path

from absl import flags

from distill.bounds import CropShare
from distill.command.flags import (
    define_number,
    define_path,
    define_source,
    parse,
)
from distill.command.launch import launch
from distill.command.models import define_model, define_reading, read_model
from distill.command.processes import define_process_flags, join
from distill.errors import UserError
from distill.evaluate.of_images import OfImagesConfig
from distill.runs.predicted import predict as run

FLAGS = flags.FlagValues()
define_model(FLAGS, "whose model predicts")
define_reading(FLAGS)
define_path("output", "File to write, .npz or .parquet.", FLAGS)
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
define_process_flags(FLAGS)


def main(arguments: list[str]) -> None:
    """Writes the predictions that the flags ask for."""
    parse(FLAGS, arguments, required=("output",))
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
    )


if __name__ == "__main__":
    launch(__doc__, FLAGS, main, batch="--batch_size")
