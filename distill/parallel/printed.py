"""What a person is told while something runs, once for all processes."""

import logging
import sys

from distill.parallel import distributed

PRINTED = logging.getLogger("distill.printed")
"""Gets every line that is printed here, for whoever keeps them; shows nothing itself."""
PRINTED.setLevel(logging.INFO)
PRINTED.propagate = False


def say(message: str) -> None:
    """Prints a message on a line of its own, once for all processes."""
    if not distributed.is_primary():
        return
    clear = "\r\033[K" if sys.stderr.isatty() else ""
    print(f"{clear}{message}", file=sys.stderr, flush=True)
    PRINTED.info(message)
