"""What may follow a source's path, or its name where it has none: `PATH?name=value&other=value`."""

import os
import re
from collections.abc import Mapping

from distill.data.sources.base import printable
from distill.errors import UserError, did_you_mean

_SAID = r"\w+=[^?&/]*(?:&\w+=[^?&/]*)*"
_OPTIONS = re.compile(rf"(?P<path>.*?)\?(?P<options>{_SAID})", re.DOTALL)


def path_and_options(argument: str, known: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The path, and the values of the options named after it.

    Args:
      argument: of a source; one that is a path as it is has no options.
      known: of each option, what its value is called, such as `COLUMN`.

    Raises:
      UserError: if one is not known, named twice, or has no value.
    """
    found = _OPTIONS.fullmatch(argument)
    if found is None or os.path.lexists(argument):
        return argument, {}
    return found["path"], _read(found["options"], known, printable(argument), "PATH")


def options_of(name: str, text: str, known: Mapping[str, str]) -> dict[str, str]:
    """The values of the options named after a source that has no path.

    Args:
      name: of the source.
      text: what follows the question mark; empty where there is none.
      known: of each option, what its value is called, such as `PIXELS`.

    Raises:
      UserError: if there is none to name, or one is not known, named twice, or has no value.
    """
    if not text:
        return {}
    what = f"{name}?{printable(text)}"
    if not known:
        raise UserError(f"{what} names options, and {name} has none; expected {name}")
    if not re.fullmatch(_SAID, text):
        raise UserError(f"{what} cannot be read; expected {_expected(name, known)}")
    return _read(text, known, what, name)


def whole_number(options: Mapping[str, str], option: str, default: int, low: int, high: int) -> int:
    """The value of an option that is a whole number.

    Args:
      options: as they were named.
      option: which.
      default: where it was not named.
      low: the smallest value.
      high: the largest value.

    Raises:
      UserError: if it is none, or out of bounds.
    """
    text = options.get(option, str(default))
    # As many digits as int() reads without a limit of its own.
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else low - 1
    if not low <= number <= high:
        raise UserError(
            f"?{option}={printable(text)}: expected a whole number from {low} to {high}"
        )
    return number


def _read(said: str, known: Mapping[str, str], what: str, name: str) -> dict[str, str]:
    pairs = [pair.split("=", 1) for pair in said.split("&")]
    for option, value in pairs:
        if option not in known:
            raise UserError(
                f"{what} names {option!r}; expected {_expected(name, known)}"
                f"{did_you_mean(option, known)}"
            )
        if not value:
            raise UserError(f"{what} names no {known[option].lower()} after {option}=")
    options = dict(pairs)
    if len(pairs) > len(options):
        twice = next(name for name, _ in pairs if [one for one, _ in pairs].count(name) > 1)
        raise UserError(f"{what} names {twice!r} twice; name each once")
    return options


def _expected(name: str, known: Mapping[str, str]) -> str:
    options = "&".join(f"{option}={what}" for option, what in known.items())
    return f"{name}?{options}" + (", or some of these" if len(known) > 1 else "")
