"""Which training command a config is for, told by its keys."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from distill.config import ConfigError
from distill.errors import UserError

# Of each command, keys that the configs of those after it do not have.
_OWN = {
    "scaling_study": ("sizes", "durations"),
    "train_head": ("head", "tower"),
    "distill_student": ("teacher", "teachers", "students", "targets", "matching"),
    "finetune": ("start",),
    "pretrain": (),
}


def command_of(keys: Collection[str], family: str | None = None) -> str:
    """The command that a config is for.

    Args:
      keys: its top-level keys.
      family: of its model; None where it says none.
    """
    if {*keys} == {"evals"}:
        return "evaluate"
    if family == "pair" and "matching" not in keys:
        return "train_pair"
    return next(command for command, own in _OWN.items() if not own or {*own} & {*keys})


def family_of(tree: Mapping[str, Any]) -> str | None:
    """Of the model that a config file describes."""
    model = tree.get("model")
    return model.get("family") if isinstance(model, Mapping) else None


@contextmanager
def expecting(schema: type, keys: Collection[str], family: str | None = None) -> Iterator[None]:
    """Says of a config that is wrong which command it is for, if it is another's.

    Args:
      schema: of the command's own configs.
      keys: the config's top-level keys.
      family: of its model.

    Raises:
      UserError: with what is wrong with the config, too.
    """
    try:
        yield
    except ConfigError as error:
        fields = {f.name for f in dataclasses.fields(schema)}
        of_pairs = {"loss", "teacher"} <= fields
        here = command_of(fields, "pair" if of_pairs else None)
        there = command_of(keys, family)
        # Targets are stored of both.
        if here == there or (of_pairs and there == "train_pair"):
            raise
        own = [key for key in _OWN.get(there, keys) if key in keys]
        if "train_pair" in (here, there):
            why = f"its model is {'a' if there == 'train_pair' else 'no'} pair"
        else:
            why = f"it has {', '.join(own)}" if own else f"it has no {_OWN[here][0]}"
        raise UserError(
            f"this is a config for distill {there}: {why}. As one for distill {here}: {error}"
        ) from error
