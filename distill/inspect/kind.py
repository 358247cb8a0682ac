"""A kind of directory that can be told: how it is known, and what is said of it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from distill.config import ConfigError
from distill.errors import UserError


class Kind(NamedTuple):
    """What a directory can be, such as a run."""

    name: str
    """With its article."""
    is_one: Callable[[Path], bool]
    """Whether a directory is one, by the files that tell of it."""
    tell: Callable[[Path], tuple[str, ...]]
    """What is said of one: parts, to be shown one below the other."""
    listed: str | None = None
    """The name of several, where they are listed with what else lies in a directory."""
    header: Sequence[str] = ()
    """Of their list."""
    row: Callable[[Path], tuple[str, ...]] | None = None
    """What the list says of one, behind its path."""


@contextmanager
def blame(file: Path, what: str) -> Iterator[None]:
    """Reports what a file says amiss as the user's to mend."""
    try:
        yield
    except ConfigError as error:
        raise UserError(f"{file} is not the description of {what}: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{file} is not the description of {what}: {error!r}") from error
