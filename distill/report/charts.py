"""Charts as SVG in the page: crisp at any width, in the page's colours, read without a script.

A chart is a figure with its alternative text, a legend where there is something to tell apart, and
beside the drawing the numbers as JSON, from which the page's script says what the pointer or the
arrow keys are at (`distill.report.script`).
"""

import dataclasses
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from distill.report import html
from distill.report.scales import Scale, brief, linear, logarithmic

WIDTH, HEIGHT = 440, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 36
MOST_POINTS = 240
"""Of one curve; of more, each stretch's lowest and highest are drawn."""
PALETTE = 10
"""Colours that the page's style has a light and a dark value for."""

# A scale of powers is offered from this ratio of the largest to the smallest value.
_SPREAD = 8.0


@dataclasses.dataclass(frozen=True)
class Curve:
    """A line through points, in the order of x."""

    name: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    sizes: Sequence[float] | np.ndarray | None = None
    """Of the points, shares of their sum, drawn as disks; None draws a disk only where the curve
    has few points."""


def lines(
    title: str,
    curves: Sequence[Curve],
    *,
    x_label: str = "step",
    y_limits: tuple[float, float] | None = None,
    x_limits: tuple[float, float] | None = None,
    percent: bool = False,
    diagonal: bool = False,
    note: str = "",
) -> str:
    """A figure of curves over one axis; empty where no curve has a point.

    Args:
      title: what is drawn.
      curves: each with its colour, in this order.
      x_label: of the axis.
      y_limits: of the axis; None takes those of the values.
      x_limits: likewise.
      percent: whether values are shares.
      diagonal: whether to draw where y is x.
      note: a sentence below the title.
    """
    drawn = [_sound(one) for one in curves]
    drawn = [one for one in drawn if len(one.x)]
    if not drawn:
        return ""
    all_y = np.concatenate([np.asarray(one.y, float) for one in drawn])
    all_x = np.concatenate([np.asarray(one.x, float) for one in drawn])
    across = linear(x_limits or (all_x.min(), all_x.max()), (LEFT, WIDTH - RIGHT), nice=False)
    ends = (HEIGHT - BOTTOM, TOP)
    up = linear(y_limits or (all_y.min(), all_y.max()), ends)
    scales = {"linear": up}
    if (
        y_limits is None
        and not percent
        and all_y.min() > 0
        and all_y.max() / all_y.min() >= _SPREAD
    ):
        scales["log"] = logarithmic((all_y.min(), all_y.max()), ends)
    groups = [
        f'<g class="{kind}-scale">{_rules(scale, percent)}'
        + "".join(_curve(one, number, across, scale) for number, one in enumerate(drawn))
        + "</g>"
        for kind, scale in scales.items()
    ]
    if diagonal:
        (left, right), place = across.domain, up.at
        groups.append(
            f'<line class="reference" x1="{_p(across.at(left))}" y1="{_p(place(left))}" '
            f'x2="{_p(across.at(right))}" y2="{_p(place(right))}"/>'
        )
    x = sorted({*all_x.tolist()})
    data = {
        "kind": "lines",
        "unit": x_label,
        "percent": percent,
        "x": [_short(one) for one in x],
        "at": [_short(across.at(one), 5) for one in x],
        "series": [_aligned(one, x) for one in drawn],
        "scales": {kind: scale.coefficients() for kind, scale in scales.items()},
    }
    last = "; ".join(
        f"{one.name} ends at {brief(float(one.y[-1]), percent)}"
        for one in drawn[:PALETTE]
        if one.sizes is None
    )
    said = f"{len(drawn)} curve{'s' * (len(drawn) > 1)} over {x_label}" + (last and f": {last}")
    svg = _svg(title, said, _across(across, x_label) + "".join(groups))
    legend = [(one.name, f"var(--c{n % PALETTE})") for n, one in enumerate(drawn)]
    table = _table(title, [x_label, *(one.name for one in drawn)], _rows(data, percent))
    return figure(title, [svg], data, legend=legend, table=table, note=note)


def bars(title: str, values: Mapping[str, float], *, percent: bool = True, note: str = "") -> str:
    """Horizontal bars from 0, one below the other; empty where there are none."""
    if not values:
        return ""
    row, left = 18, 120
    height = TOP + row * len(values) + BOTTOM
    top = max(1.0 if percent else 0.0, *values.values()) or 1.0
    across = linear((0.0, top), (left, WIDTH - 46))
    parts = []
    for tick in across.ticks:
        parts.append(
            f'<line class="rule" x1="{_p(across.at(tick))}" y1="{TOP}" x2="{_p(across.at(tick))}" '
            f'y2="{height - BOTTOM}"/><text class="tick" text-anchor="middle" '
            f'x="{_p(across.at(tick))}" y="{height - BOTTOM + 16}">{brief(tick, percent)}</text>'
        )
    for number, (name, value) in enumerate(values.items()):
        y = TOP + row * number
        parts.append(
            f'<text class="tick" text-anchor="end" x="{left - 6}" y="{y + 12.5}">'
            f'{escape(shortened(name, 18))}</text><rect class="bar" x="{left}" y="{y + 3}" '
            f'width="{_p(across.at(value) - left)}" height="{row - 6}"/>'
            f'<text class="tick" text-anchor="end" x="{WIDTH - 2}" y="{y + 12.5}">'
            f"{brief(value, percent)}</text>"
        )
    said = f"{len(values)} bars, from {brief(min(values.values()), percent)} to "
    said += brief(max(values.values()), percent)
    data = {
        "kind": "bars",
        "y": [TOP + row * (n + 0.5) for n in range(len(values))],
        "row": row,
        "labels": [f"{name}: {brief(value, percent)}" for name, value in values.items()],
    }
    return figure(title, [_svg(title, said, "".join(parts), height=height)], data, note=note)


def heat_map(
    title: str,
    counts: np.ndarray,
    names: Sequence[str],
    *,
    rows: str,
    columns: str,
    note: str = "",
) -> str:
    """A square table of counts, each cell shaded by its share of the row.

    Args:
      title: what is shown.
      counts: int [C, C].
      names: of rows and columns alike.
      rows: what a row is of.
      columns: what a column is of.
      note: a sentence below the title.
    """
    size = len(names)
    left, top = 104, 14
    cell = (WIDTH - left - 6) / size
    height = top + cell * size + 104
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shares = counts / totals
    parts, labels = [], []
    for row, name in enumerate(names):
        y = top + cell * row
        text = escape(shortened(name, 16))
        parts.append(
            f'<text class="tick" text-anchor="end" x="{left - 6}" y="{_p(y + cell / 2 + 4)}">'
            f'{text}</text><text class="tick" text-anchor="end" transform="translate('
            f'{_p(left + cell * (row + 0.5) + 4)} {_p(top + cell * size + 8)}) rotate(-60)">'
            f"{text}</text>"
        )
        for column in range(size):
            x, count = left + cell * column, int(counts[row, column])
            # What happens once is to be seen, too.
            shade = 0.12 + 0.48 * shares[row, column] if count else 0
            labels.append(f"{rows} {name}, {columns} {names[column]}: {count:,}")
            kind = "right" if row == column else "wrong"
            parts.append(
                f'<rect class="cell {kind}" x="{_p(x)}" y="{_p(y)}" width="{_p(cell - 1)}" '
                f'height="{_p(cell - 1)}" fill-opacity="{shade:.2f}"/>'
            )
            if count and cell >= 24:
                parts.append(
                    f'<text class="count" text-anchor="middle" x="{_p(x + cell / 2 - 0.5)}" '
                    f'y="{_p(y + cell / 2 + 3.5)}">{count}</text>'
                )
    right = int(np.trace(counts))
    said = f"{size} classes; {right:,} of {int(counts.sum()):,} on the diagonal"
    data = {
        "kind": "cells",
        "left": left,
        "top": top,
        "cell": _short(cell, 6),
        "size": size,
        "labels": labels,
    }
    header = [f"{rows} \\ {columns}", *names]
    table = _table(
        title, header, [[n, *map(str, r)] for n, r in zip(names, counts.tolist(), strict=True)]
    )
    svg = _svg(title, said, "".join(parts), height=height)
    return figure(title, [svg], data, table=table, note=note)


def scatter(
    title: str,
    panels: Mapping[str, np.ndarray],
    groups: Sequence[int] | np.ndarray,
    names: Sequence[str],
    labels: Sequence[str],
    *,
    note: str = "",
) -> str:
    """The same points in one map or several, coloured by group.

    Args:
      title: what is shown.
      panels: by name, places [N, 2]; the axes mean nothing.
      groups: of each point, its number in `names`; negative has no colour.
      names: of the groups.
      labels: of each point, for the read-out.
      note: a sentence below the title.
    """
    groups = np.asarray(groups)
    colours = [group_colour(number, len(names)) for number in range(len(names))]
    drawings, places = [], []
    for name, points in panels.items():
        # One scale for both directions, as distances are what a map is of.
        middle = (points.max(axis=0) + points.min(axis=0)) / 2
        reach = float(np.ptp(points, axis=0).max()) / 2 or 1.0
        across, up = (
            linear((one - reach, one + reach), ends, nice=False)
            for one, ends in zip(middle, ((10, WIDTH - 10), (WIDTH - 10, 10)), strict=True)
        )
        x = np.round([across.at(one) for one in points[:, 0]], 1)
        y = np.round([up.at(one) for one in points[:, 1]], 1)
        parts = []
        for group in (-1, *range(len(names))):
            mine = np.flatnonzero(groups == group if group >= 0 else groups < 0)
            if len(mine):
                # A line of no length with round ends is a disk, and ten characters.
                path = "".join(f"M{x[n]:g} {y[n]:g}h0" for n in mine)
                colour = colours[group] if group >= 0 else "var(--muted)"
                parts.append(f'<path class="dots" style="stroke:{colour}" d="{path}"/>')
        said = f"{len(points):,} points in {len(names)} groups"
        drawn = _svg(f"{title}: {name}", said, "".join(parts), height=WIDTH)
        drawings.append(f'<div><span class="muted">{escape(name)}</span>{drawn}</div>')
        places.append([x.tolist(), y.tolist()])
    data = {"kind": "points", "panels": places, "labels": list(labels)}
    legend = [*zip(names, colours, strict=True)] if len(names) <= 24 else []
    return figure(title, drawings, data, legend=legend, note=note)


def group_colour(number: int, of: int) -> str:
    """A CSS colour: one of the palette, or where it has too few, a hue of its own."""
    if of <= PALETTE:
        return f"var(--c{number})"
    # Neighbours in number are far apart in hue.
    return f"hsl({number * 137.508 % 360:.0f} 65% {(45, 60)[number % 2]}%)"


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


def _sound(curve: Curve) -> Curve:
    """The curve without points that are not finite, and thinned where it has many."""
    x, y = np.asarray(curve.x, float), np.asarray(curve.y, float)
    kept = np.isfinite(x) & np.isfinite(y)
    if curve.sizes is not None:
        return Curve(curve.name, x[kept], y[kept], np.asarray(curve.sizes, float)[kept])
    x, y = x[kept], y[kept]
    if len(x) > MOST_POINTS:
        ends = np.linspace(0, len(x), MOST_POINTS // 2 + 1).astype(int)
        stretches = [range(a, b) for a, b in itertools.pairwise(ends)]
        chosen = {0, len(x) - 1}
        for part in stretches:
            chosen |= {min(part, key=lambda n: y[n]), max(part, key=lambda n: y[n])}
        order = sorted(chosen)
        x, y = x[order], y[order]
    return Curve(curve.name, x, y)


def _curve(curve: Curve, number: int, across: Scale, up: Scale) -> str:
    at = [(_p(across.at(x)), _p(up.at(y))) for x, y in zip(curve.x, curve.y, strict=True)]
    style = f'style="--c:var(--c{number % PALETTE})"'
    joined = " ".join(f"{x},{y}" for x, y in at)
    found = f'<polyline class="curve" {style} points="{joined}"/>'
    if curve.sizes is not None:
        radii = [2 + 9 * math.sqrt(size) for size in curve.sizes]
    elif len(at) <= 25:
        radii = [2.2] * len(at)
    else:
        radii = []
    for (x, y), radius in zip(at, radii, strict=False):
        found += f'<circle class="dot" {style} cx="{x}" cy="{y}" r="{_p(radius)}"/>'
    return found


def _rules(scale: Scale, percent: bool) -> str:
    """Horizontal lines at a vertical scale's ticks."""
    found = []
    for tick in scale.ticks:
        y = scale.at(tick)
        found.append(
            f'<line class="rule" x1="{LEFT}" y1="{_p(y)}" x2="{WIDTH - RIGHT}" y2="{_p(y)}"/>'
            f'<text class="tick" text-anchor="end" x="{LEFT - 6}" y="{_p(y + 4)}">'
            f"{brief(tick, percent)}</text>"
        )
    return "".join(found)


def _across(scale: Scale, label: str) -> str:
    """The horizontal axis, below the drawing."""
    base = HEIGHT - BOTTOM
    ticks = "".join(
        f'<text class="tick" text-anchor="middle" x="{_p(scale.at(tick))}" y="{base + 16}">'
        f"{brief(tick)}</text>"
        for tick in scale.ticks
    )
    return (
        f'{ticks}<text class="tick" text-anchor="end" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}">'
        f"{escape(label)}</text>"
    )


def _svg(title: str, said: str, content: str, *, height: float = HEIGHT) -> str:
    return (
        f'<svg role="img" viewBox="0 0 {WIDTH} {_p(height)}"><title>{escape(title)}</title>'
        f"<desc>{escape(said)}</desc>{content}</svg>"
    )


def _aligned(curve: Curve, x: Sequence[float]) -> dict[str, Any]:
    """A curve's values at all places of the axis, null where it has none."""
    known = dict(zip(np.asarray(curve.x).tolist(), np.asarray(curve.y).tolist(), strict=True))
    return {"name": curve.name, "y": [_short(known[one]) if one in known else None for one in x]}


def _rows(data: Mapping[str, Any], percent: bool, most: int = 50) -> list[list[str]]:
    """Of a line chart's numbers, so many at equal distances, the last among them."""
    count = len(data["x"])
    places = sorted({*np.linspace(0, count - 1, min(count, most)).astype(int).tolist()})
    return [
        [
            brief(data["x"][n], full=True),
            *(
                "" if one["y"][n] is None else brief(one["y"][n], percent, full=True)
                for one in data["series"]
            ),
        ]
        for n in places
    ]


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The numbers of a chart, on demand."""
    return html.details("Numbers", html.wide_table(header, rows), key=f"numbers {title}")


def _short(value: float, digits: int = 5) -> float | int:
    """A number to so many places, as few characters as they take."""
    rounded = float(f"{value:.{digits}g}")
    return int(value) if value == int(value) and abs(value) < 1e15 else rounded


def _p(value: float) -> str:
    """A place in a drawing, to a tenth of a unit."""
    return f"{value:.1f}".removesuffix(".0")
