"""The finished model that a command line names: a run's, or published weights."""

from pathlib import Path
from typing import Any

from absl import flags

from distill.bounds import BatchSize, Share, Side
from distill.buckets import local
from distill.command.flags import define_number, define_path
from distill.errors import UserError
from distill.paths import (
    SHORT,
    in_bucket,
    local_or_bucket_path,
    local_or_remote_path,
    local_path,
    templates_or_path,
)
from distill.runs.weights import WeightsConfig
from distill.runs.zero_shot import ZeroShotConfig

_OF_PAIRS = ("zeroshot_classes", "zeroshot_templates", "tokenizer")


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
    define_number(
        "image_size",
        "In pixels, of published weights; what they are published for if not given.",
        values,
        Side,
    )
    flags.DEFINE_bool(
        "best",
        False,
        "The weights kept by config.train.keep_best, not the last.",
        flag_values=values,
    )
    define_pairs(values)


def define_pairs(values: flags.FlagValues) -> None:
    """Defines the flags that make classifiers of published pairs, whose classes are texts."""
    flags.DEFINE_string(
        "zeroshot_classes",
        None,
        "Makes a pair, published or of a run, a classifier: a file that names its classes, one a "
        "line, or the names, separated by commas.",
        flag_values=values,
    )
    define_path(
        "zeroshot_templates",
        "File of templates, one a line, with {} where a name stands; short for those that are "
        "shipped; or a template, such as {}.",
        values,
        default=SHORT,
        read=templates_or_path,
    )
    define_path(
        "tokenizer",
        "Vocabulary of a published pair's text tower; what lies beside the weights if not given.",
        values,
    )


def read_pairs(values: flags.FlagValues) -> dict[str, Any]:
    """What the flags of `define_pairs` say of published pairs: fields of `WeightsConfig`.

    Raises:
      UserError: if they do not go together.
    """
    found: dict[str, Any] = {"tokenizer": values.tokenizer} if values.tokenizer else {}
    if values.zeroshot_classes is None:
        if values["zeroshot_templates"].present:
            raise UserError(
                "--zeroshot_templates is for --zeroshot_classes; add what classes there are"
            )
        return found
    text = values.zeroshot_classes
    names = [name.strip() for name in text.split(",")]
    if len(names) > 1 and not Path(text).exists():
        if not all(names):
            raise UserError(f"--zeroshot_classes is {text!r}; expected names such as cat,dog")
        said: dict[str, Any] = {"classes": tuple(names)}
    else:
        said = {"class_names": local_path(text, "--zeroshot_classes")}
    return found | {"zeroshot": ZeroShotConfig(**said, templates=values.zeroshot_templates)}


def define_reading(values: flags.FlagValues) -> None:
    """Defines the flags that say how images are read and models are run on them."""
    define_path(
        "data_dir",
        "Where TFDS keeps its data sets; the run's or TFDS's default if not given.",
        values,
        read=local_or_remote_path,
    )
    define_number(
        "max_corrupt_share",
        "Of the images, how many may be unreadable; the run's data.max_corrupt_share if not given.",
        values,
        Share,
    )
    define_number("batch_size", "Over all devices.", values, BatchSize, 256)


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
        if values.zeroshot_classes is not None:
            if values.best:
                raise UserError(
                    "--best is not for --zeroshot_classes, which takes the last weights"
                )
            return WeightsConfig(path=str(local(values.workdir)), **read_pairs(values))
        if given := [name for name in _OF_PAIRS if values[name].present]:
            raise UserError(f"--{given[0]} is for --weights, or goes with --zeroshot_classes")
        return local(values.workdir)
    if values.best:
        raise UserError("--best is for --workdir; published weights are one set")
    return WeightsConfig(path=values.weights, image_size=values.image_size, **read_pairs(values))
