"""What charts are made of: a figure with its drawing, its legend and its numbers.

A chart is a figure with its alternative text, a legend where there is something to tell apart, and
beside the drawing the numbers as JSON, from which the page's script says what the pointer or the
arrow keys are at (`distill.report.script`).
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from distill.report import html

WIDTH, HEIGHT = 440, 240
PALETTE = 10
"""Colours that the page's style has a light and a dark value for."""


def figure(
    title: str,
    drawings: Sequence[str],
    data: Mapping[str, Any],
    *,
    legend: Sequence[tuple[str, str]] = (),
    table: str = "",
    note: str = "",
) -> str:
    """Drawings of one thing with what the script needs to read them out."""
    keys = "".join(
        f'<li><span class="key" style="background:{colour}"></span>{escape(name)}</li>'
        for name, colour in legend
        if len(legend) > 1
    )
    below = f"<small>{escape(note)}</small>" if note else ""
    several = len(drawings) > 1
    return (
        f'<figure class="chart{" broad" if several else ""}">'
        f"<figcaption>{escape(title)}{below}</figcaption>"
        + (f'<ul class="legend">{keys}</ul>' if keys else "")
        + f'<div class="plot{" several" if several else ""}">{"".join(drawings)}</div>'
        + f'<p class="readout"></p>{json_script(data)}{table}</figure>'
    )


def json_script(data: Any) -> str:
    """Data for the script; nothing in it can end the element."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # Of a lone surrogate, as names of files may have, JSON's own escape can be encoded.
    text = text.encode("utf-8", "backslashreplace").decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json">{text}</script>'


def shortened(text: str, most: int) -> str:
    """A text of at most so many characters; what is left out in the middle is an ellipsis."""
    if len(text) <= most:
        return text
    return f"{text[: (most - 1) // 2]}…{text[len(text) - most // 2 :]}"


def drawing(title: str, said: str, content: str, *, height: float = HEIGHT) -> str:
    """A drawing, and what it shows in words."""
    return (
        f'<svg role="img" viewBox="0 0 {WIDTH} {tenth(height)}"><title>{escape(title)}</title>'
        f"<desc>{escape(said)}</desc>{content}</svg>"
    )


def table_of(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The numbers of a chart, on demand."""
    return html.details("Numbers", html.wide_table(header, rows), key=f"numbers {title}")


def short(value: float, digits: int = 5) -> float | int:
    """A number to so many places, as few characters as they take."""
    rounded = float(f"{value:.{digits}g}")
    return int(value) if value == int(value) and abs(value) < 1e15 else rounded


def tenth(value: float) -> str:
    """A place in a drawing, to a tenth of a unit."""
    return f"{value:.1f}".removesuffix(".0")
