"""The finished model that a command line names: a run's, or published weights."""

from pathlib import Path

from absl import flags

from distill.buckets import local
from distill.command.flags import define_path
from distill.errors import UserError
from distill.paths import in_bucket, local_or_bucket_path, local_or_remote_path
from distill.runs.weights import WeightsConfig


def define_model(values: flags.FlagValues, purpose: str) -> None:
    """Defines the flags that name a finished model.

    Args:
      values: gets the flags.
      purpose: what a run's is named for, such as "to evaluate".
    """
    define_path("workdir", f"Of the run {purpose}.", values, read=local_or_bucket_path)
    define_path(
        "weights",
        "Published weights instead of a workdir: a file, or the directory that holds it.",
        values,
    )
    flags.DEFINE_integer(
        "image_size",
        None,
        "In pixels, of published weights; what they are published for if not given.",
        1,
        flag_values=values,
    )
    flags.DEFINE_bool(
        "best",
        False,
        "The weights kept by config.train.keep_best, not the last.",
        flag_values=values,
    )


def define_reading(values: flags.FlagValues) -> None:
    """Defines the flags that say how images are read and models are run on them."""
    define_path(
        "data_dir",
        "Where TFDS keeps its data sets; the run's or TFDS's default if not given.",
        values,
        read=local_or_remote_path,
    )
    flags.DEFINE_integer("batch_size", 256, "Over all devices.", 1, flag_values=values)


def check_output(values: flags.FlagValues) -> None:
    """Checks that --output is given for a run in a bucket, whose workdir is not written to.

    Raises:
      UserError: if it is not.
    """
    if values.workdir and in_bucket(values.workdir) and not values.output:
        raise UserError(
            f"--workdir is {values.workdir}, and what is made of a run in a bucket is written to "
            "this machine; give --output"
        )


def read_model(values: flags.FlagValues) -> Path | WeightsConfig:
    """The model that the flags of `define_model` name.

    Raises:
      UserError: if they do not go together.
    """
    if (values.workdir is None) == (values.weights is None):
        raise UserError(
            "give one of --workdir, of a run, and --weights, of a published model\nSee --help"
        )
    if values.weights is None:
        if values.image_size:
            raise UserError("--image_size is for --weights; a run's model has one already")
        return local(values.workdir)
    if values.best:
        raise UserError("--best is for --workdir; published weights are one set")
    return WeightsConfig(path=values.weights, image_size=values.image_size)
