"""What a terminal shows."""

import io
import sys
from collections.abc import Sequence


def accept_any_text() -> None:
    """Lets standard output show `?` for what its encoding lacks, in place of raising.

    Tables have lines and names have letters that a terminal of the locale C does not know.
    Standard error never raises.
    """
    # Tests, and programs that call this one, put other objects in its place.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is left-aligned and whose others are right-aligned."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells):
        first, *rest = zip(cells, widths, strict=True)
        return "  ".join([f"{first[0]:<{first[1]}}", *(f"{c:>{w}}" for c, w in rest)])

    return "\n".join([line(header), "  ".join("─" * w for w in widths), *map(line, rows)])
