"""What a terminal shows."""

import io
import sys


def accept_any_text() -> None:
    """Lets standard output show `?` for what its encoding lacks, in place of raising.

    Tables have lines and names have letters that a terminal of the locale C does not know.
    Standard error never raises.
    """
    # Tests, and programs that call this one, put other objects in its place.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
