"""What may follow a source's path: `PATH?name=value&other=value`."""

import os
import re
from collections.abc import Mapping

from distill.data.sources.base import printable
from distill.errors import UserError, did_you_mean

_OPTIONS = re.compile(r"(?P<path>.*?)\?(?P<options>\w+=[^?&/]*(?:&\w+=[^?&/]*)*)", re.DOTALL)


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
    pairs = [pair.split("=", 1) for pair in found["options"].split("&")]
    for option, value in pairs:
        if option not in known:
            expected = "&".join(f"{name}={what}" for name, what in known.items())
            some = ", or some of these" if len(known) > 1 else ""
            raise UserError(
                f"{printable(argument)} names {option!r}; expected PATH?{expected}{some}"
                f"{did_you_mean(option, known)}"
            )
        if not value:
            raise UserError(
                f"{printable(argument)} names no {known[option].lower()} after {option}="
            )
    options = dict(pairs)
    if len(pairs) > len(options):
        twice = next(name for name, _ in pairs if [one for one, _ in pairs].count(name) > 1)
        raise UserError(f"{printable(argument)} names {twice!r} twice; name each once")
    return found["path"], options
