"""Errors that a user can mend: shown as one message, never as a traceback."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


class UserError(Exception):
    """Something the user asked for cannot be done; the message says what to change.

    `distill.command.launch` prints the message and exits with `exit_code`.
    """

    exit_code = 2


class RunFailed(UserError):
    """A run that started well and had to stop; what it saved before is kept."""

    exit_code = 1


class Damaged(RunFailed):
    """What is on disk is no longer what was written there."""


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known name it resembles, if it does."""
    near = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def check_each_once(field: str, values: Sequence[Any]) -> None:
    """Checks that no value of a config's field is there twice.

    Raises:
      ValueError: if one is.
    """
    twice = [value for place, value in enumerate(values) if value in values[:place]]
    if twice:
        raise ValueError(f"{field} must name each once, not {twice[0]!r} twice")
