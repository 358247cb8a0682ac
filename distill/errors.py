"""Errors that a user can mend: shown as one message, never as a traceback."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import Any


class UserError(Exception):
    """Something the user asked for cannot be done; the message says what to change.

    `distill.command.launch` prints the message and exits with `exit_code`.
    """

    exit_code = 2


class RunFailed(UserError):
    """A run that started well and had to stop; what it saved before is kept."""

    exit_code = 1


class WrongFile(RunFailed):
    """A file of the user's that does not hold what its place says, met on the way."""

    exit_code = UserError.exit_code


class Damaged(RunFailed):
    """What is on disk is no longer what was written there."""


class GivenTwice(ValueError):
    """Keys of a section of which a config may give one, and gives several.

    `distill.config.resolve` adds which of them is from where, and what takes one away.
    """

    def __init__(self, message: str, given: Iterable[str]):
        super().__init__(message)
        self.given = tuple(given)


def did_you_mean(name: str, names: Iterable[str], *, alike: float = 0.6) -> str:
    """The end of a message about an unknown name: the known name it resembles, if it does.

    Args:
      name: as it was given.
      names: those that are known.
      alike: how much of both has to be the same, from 0 to 1.
    """
    near = difflib.get_close_matches(name, list(names), 1, alike)
    return f"; did you mean {near[0]!r}?" if near else ""


def together(*steps: Callable[[], Any]) -> list[Any]:
    """What each of several steps returns; what a user can mend of them is said of all at once.

    Raises:
      UserError: with what is wrong in every step that fails.
    """
    found, errors = [], []
    for step in steps:
        try:
            found.append(step())
        except RunFailed:
            raise
        except UserError as error:
            errors.append(error)
    if len(errors) > 1:
        raise UserError("\n".join(map(str, errors))) from errors[0]
    if errors:
        raise errors[0]
    return found


def check_each_once(field: str, values: Sequence[Any]) -> None:
    """Checks that no value of a config's field is there twice.

    Raises:
      ValueError: if one is.
    """
    twice = [value for place, value in enumerate(values) if value in values[:place]]
    if twice:
        raise ValueError(f"{field} must name each once, not {twice[0]!r} twice")
