"""What the command line of `distill plan` names: a run, and ways to run it."""

import re

from distill import config as configs
from distill.command.kind import command_of, family_of
from distill.errors import UserError
from distill.estimate.jobs import Planned, in_full
from distill.runs.distillation import DistillConfig
from distill.runs.pairs import PairTrainingConfig
from distill.runs.pretraining import PretrainConfig
from distill.runs.storing import StoreTargetsConfig

_SCHEMAS = {
    "pretrain": PretrainConfig,
    "distill_student": DistillConfig,
    "train_pair": PairTrainingConfig,
}


def load_config(spec: str, overrides: dict[str, str], storing: bool = False) -> Planned:
    """The config of a training run in a file, by its keys, with towers of teachers in full.

    Raises:
      UserError: if it is of another command.
    """
    tree = configs.load_file(spec)
    command = command_of(tree.keys(), family_of(tree))
    if command not in _SCHEMAS:
        known = ", ".join(_SCHEMAS)
        raise UserError(f"{spec} is a config for distill {command}; plans are of {known}")
    if storing and command != "distill_student":
        raise UserError(
            f"{spec} is a config for distill {command}; --store_targets takes one of "
            "distill_student, whose teacher is asked"
        )
    schema = StoreTargetsConfig if storing else _SCHEMAS[command]
    return in_full(configs.resolve(schema, tree, overrides))


def mesh_sizes(text: str, axes: tuple[str, ...]) -> dict[str, int]:
    """Sizes by axis that --sweep_meshes lists, such as 16x64x1.

    Raises:
      UserError: if they are none of these axes.
    """
    sizes = text.split("x")
    if len(sizes) != len(axes) or not all(map(_is_positive, sizes)):
        raise UserError(
            f"--sweep_meshes has {text!r}; expected {' x '.join(axes)}, such as "
            f"{'x'.join(['16', '64', *['1'] * (len(axes) - 2)])}"
        )
    return dict(zip(axes, map(int, sizes), strict=True))


def positive(text: str) -> int:
    """A number that --sweep_microbatches lists.

    Raises:
      UserError: if it is none.
    """
    if not _is_positive(text):
        raise UserError(f"--sweep_microbatches has {text!r}; expected a number above 0")
    return int(text)


def _is_positive(text: str) -> bool:
    return re.fullmatch(r"0{,8}[1-9]\d{,8}", text) is not None
