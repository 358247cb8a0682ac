"""What a person is told while something runs, once for all processes."""

import contextlib
import logging
from collections.abc import Iterator

from distill.parallel import distributed
from distill.terminal import TERMINAL

PRINTED = logging.getLogger("distill.printed")
"""Gets every line that is printed here, for whoever keeps them; shows nothing itself."""
PRINTED.setLevel(logging.INFO)
PRINTED.propagate = False

_verbose = False


def say(message: str, *styles: str, detailed: str | None = None) -> None:
    """Prints a message on a line of its own, once for all processes.

    Args:
      message: to print.
      *styles: of `distill.terminal`, where there is colour.
      detailed: what is kept in its place, and printed where `verbose` is entered.
    """
    if not distributed.is_primary():
        return
    kept = message if detailed is None else detailed
    TERMINAL.print(kept if _verbose else message, *styles)
    PRINTED.info(kept)


def keep(message: str) -> None:
    """Keeps a message as if it was printed; prints it only where `verbose` is entered."""
    if _verbose:
        say(message)
    elif distributed.is_primary():
        PRINTED.info(message)


@contextlib.contextmanager
def verbose(wanted: bool = True) -> Iterator[None]:
    """While entered, everything is printed that is kept."""
    global _verbose
    before, _verbose = _verbose, wanted
    try:
        yield
    finally:
        _verbose = before
