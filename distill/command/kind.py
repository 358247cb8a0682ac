"""Which training command a config is for, told by its keys."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

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


# Where configs of a command are, if it is not a folder of its name.
_FOLDERS = {
    "distill_student": "distill",
    "train_head": "head",
    "train_pair": "pretrain",
    "scaling_study": "scaling",
}


def folder_of(schema: type) -> str:
    """The folder of shipped configs of the command whose configs have a schema."""
    command = _reader(schema)
    return _FOLDERS.get(command, command)


def _reader(schema: type) -> str:
    """The command whose configs have a schema."""
    fields = {f.name for f in dataclasses.fields(schema)}
    return command_of(fields, "pair" if {"loss", "teacher"} <= fields else None)


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
        if (other := others_config(schema, keys, family)) is None:
            raise
        raise UserError(
            f"this is {other.said}. As one for distill {other.here}: {error}"
        ) from error


class Others(NamedTuple):
    """A config of another command."""

    here: str
    """The command that reads it."""
    there: str
    """That it is for."""
    said: str
    """In words, with why."""


def others_config(schema: type, keys: Collection[str], family: str | None = None) -> Others | None:
    """Of a config that is another command's, whose; None of the command's own.

    Args:
      schema: of the command's own configs.
      keys: the config's top-level keys.
      family: of its model.
    """
    fields = {f.name for f in dataclasses.fields(schema)}
    of_pairs = {"loss", "teacher"} <= fields
    here = _reader(schema)
    there = command_of(keys, family)
    # Targets are stored of both.
    if here == there or (of_pairs and there == "train_pair"):
        return None
    own = [key for key in _OWN.get(there, keys) if key in keys]
    if "train_pair" in (here, there):
        why = f"its model is {'a' if there == 'train_pair' else 'no'} pair"
    elif own or not _OWN.get(here):
        why = f"it has {', '.join(own or keys)}"
    else:
        why = f"it has no {_OWN[here][0]}"
    return Others(here, there, f"a config for distill {there}: {why}")
