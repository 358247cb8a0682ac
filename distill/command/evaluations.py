"""The evaluations that a command line asks for: a config, or flags that are short forms of it."""

import re
from collections.abc import Mapping

from absl import flags

from distill.command.flags import define_config, define_path, define_source
from distill.config import load_file, resolve
from distill.config.values import shown
from distill.errors import UserError
from distill.evaluate.evaluation import EvaluationConfig
from distill.evaluate.split import SplitConfig
from distill.evaluate.transfer import SHORT_FORM, TransferConfig
from distill.paths import map_or_order
from distill.runs.evaluated import EvaluateConfig

# Flags that say what a config may say.
_SHORT = (
    *("split", "source", "classes", "class_map"),
    *("fewshot", "knn", "probe", "train_split", "seeds"),
)


def define_images(values: flags.FlagValues) -> None:
    """Defines the flags that name images with labels: a split, of a source, and their classes."""
    flags.DEFINE_string("split", None, "The run's test split if not given.", flag_values=values)
    define_source(
        "source",
        "Such as folder:PATH or tfds:NAME; the run's own data if not given.",
        values,
    )
    define_path(
        "class_map",
        "JSON file {class of the data: class of the model}, or in_order: the data's classes are "
        "the model's, one after the other, whatever they are called.",
        values,
        read=map_or_order,
    )


def define_evaluations(values: flags.FlagValues) -> None:
    """Defines --config and the flags that are short forms of one evaluation."""
    define_config(values)
    define_images(values)
    flags.DEFINE_list(
        "classes",
        [],
        "Only images of these; if not given, all, or the run's. As many as the model's, but called "
        "otherwise, they are taken to be in the model's order.",
        flag_values=values,
    )
    flags.DEFINE_list("fewshot", [], "Images per class, such as 1,5,10,25.", flag_values=values)
    flags.DEFINE_list("knn", [], "Neighbours that vote, such as 20.", flag_values=values)
    flags.DEFINE_bool("probe", False, "Logistic regression on all features.", flag_values=values)
    flags.DEFINE_string(
        "train_split",
        None,
        "Of shots, neighbours and the probe's images; the run's train split if not given.",
        flag_values=values,
    )
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Each draws other shots.", flag_values=values)


def _numbers(values: flags.FlagValues, flag: str) -> tuple[int, ...]:
    texts = getattr(values, flag)
    for text in texts:
        if not re.fullmatch(r"\d{1,18}", text):
            raise UserError(f"--{flag} has {shown(text)}; expected numbers such as 1,5,10")
    return tuple(map(int, texts))


def _short_form(values: flags.FlagValues) -> dict[str, EvaluationConfig]:
    """The evaluation that flags ask for, by name.

    Raises:
      UserError: if they do not go together.
    """
    classes, split = tuple(values.classes), values.split
    try:
        if not (values.fewshot or values.knn or values.probe):
            if values.train_split:
                raise UserError(
                    "--train_split is for --fewshot, --knn and --probe; add one of them"
                )
            mapped = values.class_map
            config = SplitConfig(
                source=values.source, split=split, classes=classes, class_map=mapped
            )
            return {split or "": config}
        if values.class_map:
            raise UserError(
                "--class_map is for a model's own classes; --fewshot, --knn and --probe "
                "learn the data's"
            )
        config = TransferConfig(
            sources=(values.source,) if values.source else (),
            classes=classes,
            train_split=values.train_split,
            test_split=split,
            shots=_numbers(values, "fewshot"),
            seeds=_numbers(values, "seeds"),
            neighbours=_numbers(values, "knn"),
            probe=values.probe,
        )
    except ValueError as error:
        raise UserError(f"{error}\nSee --help") from error
    return {SHORT_FORM: config}


def read_evaluations(
    values: flags.FlagValues, overrides: Mapping[str, str]
) -> dict[str, EvaluationConfig]:
    """The evaluations that a config asks for, or else the flags that are short forms, by name.

    Args:
      values: parsed, with the flags of `define_evaluations`.
      overrides: of the config, as `split_overrides` finds them.

    Raises:
      UserError: if both do, or nothing is asked for.
    """
    if values.config is None and not overrides:
        return _short_form(values)
    if short := [name for name in _SHORT if values[name].present]:
        raise UserError(
            f"--{short[0]} is short for an evaluation of its own; say it in the config, such as "
            "--config.evals.NAME.split=test"
        )
    return read_config_evaluations(values, overrides)


def read_config_evaluations(
    values: flags.FlagValues, overrides: Mapping[str, str]
) -> dict[str, EvaluationConfig]:
    """The evaluations of a config and its overrides, by name.

    Args:
      values: parsed, with the flag of `define_config`.
      overrides: of the config, as `split_overrides` finds them.

    Raises:
      UserError: if nothing is asked for.
    """
    tree = load_file(values.config, "evaluate") if values.config else {}
    evals = resolve(EvaluateConfig, tree, overrides).evals
    if not evals:
        raise UserError(
            "nothing is asked for; give a config with evals, or one here, such as "
            "--config.evals.test.kind=split --config.evals.test.source=folder:PATH\nSee --help"
        )
    return evals
