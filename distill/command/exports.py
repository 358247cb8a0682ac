"""The flags that say how a model is exported."""

import re
from typing import get_args

from absl import flags

from distill.bounds import Images, Side
from distill.command.flags import define_number, define_path
from distill.config.schema import MISSING
from distill.config.values import coerce, shown, type_name
from distill.errors import UserError
from distill.export.hub import Push
from distill.export.model import Tower
from distill.export.versions import FORMATS


def define_export(values: flags.FlagValues) -> None:
    """Defines formats, what of a model they hold, and where and how they are written."""
    flags.DEFINE_list(
        "format", ["saved_model"], f"One or more of {', '.join(FORMATS)}.", flag_values=values
    )
    flags.DEFINE_enum(
        "tower",
        None,
        get_args(Tower),
        "Of a pair: image, with embeddings as texts are compared with, text, or pair, both of them "
        "(format hf). Without, image of a run, and the image tower as it is of published weights.",
        flag_values=values,
    )
    define_path("output", "Directory of the versions; WORKDIR/export if not given.", values)
    flags.DEFINE_string(
        "size",
        None,
        "HEIGHTxWIDTH of the images that a head takes in onnx, such as 480x640; one window's if "
        "not given. Other formats take images of any size.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "dtype",
        "float32",
        ["float32", "bfloat16"],
        "Of parameters and activations.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "licence", "unknown", "Of the weights, for the model card: an SPDX name.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string(
        "push",
        None,
        "USER/REPO on Hugging Face's hub to upload all of it to, in one commit.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "push_private", False, "A repository that is made for --push is private.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_bool(
        "push_dry_run",
        False,
        "Exports, and says what --push would upload and the card, without network and token.",
        flag_values=values,
    )
    define_number(
        "images",
        "Of the evaluation split to compare on, evenly spread; all where there are fewer. Of a "
        "head at most 16.",
        values,
        Images,
        1000,
    )


def read_size(values: flags.FlagValues) -> tuple[int, int] | None:
    """The height and width that the flag `size` says; None if it is not given.

    Raises:
      UserError: if it says something else.
    """
    if values.size is None:
        return None
    height, _, width = values.size.partition("x")
    sides = [int(side) for side in (height, width) if re.fullmatch(r"\d{1,9}", side)]
    if len(sides) < 2 or any(coerce(side, Side, "--size") is MISSING for side in sides):
        raise UserError(
            f"--size is {shown(values.size)}; expected HEIGHTxWIDTH, such as 480x640, of "
            f"{type_name(Side)} each"
        )
    return sides[0], sides[1]


def read_push(values: flags.FlagValues) -> Push | None:
    """Where to upload what is exported, as the flags say; None if nowhere.

    Raises:
      UserError: if they say what cannot be.
    """
    if values.push is None:
        for name in ("push_private", "push_dry_run"):
            if values[name].value:
                raise UserError(f"--{name} goes with --push=USER/REPO; give it, or leave that out")
        return None
    return Push(values.push, private=values.push_private, dry_run=values.push_dry_run)
