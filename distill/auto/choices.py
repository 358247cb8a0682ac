"""What was chosen, and why, as a person reads it."""

import shutil
import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_WIDEST, _NARROWEST = 110, 60


class Choice(NamedTuple):
    """One decision."""

    what: str
    """In a word or two."""
    chosen: str
    why: str
    keys: tuple[str, ...] = ()
    """Of the config, that say it."""


def choice_table(choices: Iterable[Choice], width: int | None = None) -> str:
    """The choices one below the other: what, as what, and why, wrapped.

    Args:
      choices: in their order.
      width: of a line; None takes the terminal's.
    """
    rows = list(choices)
    width = width or shutil.get_terminal_size((_WIDEST, 24)).columns
    width = min(max(width, _NARROWEST), _WIDEST)
    first = max(len(row.what) for row in rows)
    second = min(max(len(row.chosen) for row in rows), (width - first) // 2 - 2)
    third = width - first - second - 4
    return "\n".join(line for row in rows for line in _lines(row, first, second, third))


def _lines(row: Choice, first: int, second: int, third: int) -> Iterable[str]:
    chosen, why = _wrapped(row.chosen, second), _wrapped(row.why, third)
    for number in range(max(len(chosen), len(why))):
        cells = (
            row.what if number == 0 else "",
            chosen[number] if number < len(chosen) else "",
            why[number] if number < len(why) else "",
        )
        yield f"{cells[0]:<{first}}  {cells[1]:<{second}}  {cells[2]}".rstrip()


def _wrapped(text: str, width: int) -> Sequence[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]


def parameters_in_words(count: int) -> str:
    """Such as 34,592 parameters, or 21.7 million parameters."""
    return f"{count:,} parameters" if count < 1e6 else f"{count / 1e6:,.3g} million parameters"
