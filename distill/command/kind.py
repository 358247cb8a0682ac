"""Which training command a config is for, told by its keys."""

import dataclasses
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from distill.config import ConfigError
from distill.errors import UserError

# Of each command, keys that the configs of those after it do not have.
_OWN = {
    "scaling_study": ("sizes", "durations"),
    "distill_student": ("teacher", "teachers", "students", "targets", "matching"),
    "finetune": ("start",),
    "pretrain": (),
}


def command_of(keys: Collection[str]) -> str:
    """The command whose configs have these top-level keys."""
    if {*keys} == {"evals"}:
        return "evaluate"
    return next(command for command, own in _OWN.items() if not own or {*own} & {*keys})


@contextmanager
def expecting(schema: type, keys: Collection[str]) -> Iterator[None]:
    """Says of a config that is wrong which command it is for, if it is another's.

    Args:
      schema: of the command's own configs.
      keys: the config's top-level keys.

    Raises:
      UserError: with what is wrong with the config, too.
    """
    try:
        yield
    except ConfigError as error:
        here, there = command_of([f.name for f in dataclasses.fields(schema)]), command_of(keys)
        if here == there:
            raise
        own = [key for key in _OWN.get(there, keys) if key in keys]
        why = f"it has {', '.join(own)}" if own else f"it has no {_OWN[here][0]}"
        raise UserError(
            f"this is a config for distill {there}: {why}. As one for distill {here}: {error}"
        ) from error
