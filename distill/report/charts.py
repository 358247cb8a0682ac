"""Curves and bars as SVG in the page: crisp at any width, in the page's colours."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from distill.report.drawing import (
    HEIGHT,
    PALETTE,
    WIDTH,
    drawing,
    figure,
    short,
    shortened,
    table_of,
    tenth,
)
from distill.report.scales import Scale, brief, linear, logarithmic

LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 36
MOST_POINTS = 240
"""Of one curve; of more, each stretch's lowest and highest are drawn."""

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
        left, right = across.domain
        groups.append(
            f'<line class="reference" x1="{tenth(across.at(left))}" y1="{tenth(up.at(left))}" '
            f'x2="{tenth(across.at(right))}" y2="{tenth(up.at(right))}"/>'
        )
    x = sorted({*all_x.tolist()})
    data = {
        "kind": "lines",
        "unit": x_label,
        "percent": percent,
        "x": [short(one) for one in x],
        "at": [short(across.at(one), 5) for one in x],
        "series": [_aligned(one, x) for one in drawn],
        "scales": {kind: scale.coefficients() for kind, scale in scales.items()},
    }
    last = "; ".join(
        f"{one.name} ends at {brief(float(one.y[-1]), percent)}"
        for one in drawn[:PALETTE]
        if one.sizes is None
    )
    said = f"{len(drawn)} curve{'s' * (len(drawn) > 1)} over {x_label}" + (last and f": {last}")
    drawn_as = drawing(title, said, _across(across, x_label) + "".join(groups))
    legend = [(one.name, f"var(--c{n % PALETTE})") for n, one in enumerate(drawn)]
    table = table_of(title, [x_label, *(one.name for one in drawn)], _rows(data, percent))
    return figure(title, [drawn_as], data, legend=legend, table=table, note=note)


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
        x, base = tenth(across.at(tick)), height - BOTTOM
        parts.append(
            f'<line class="rule" x1="{x}" y1="{TOP}" x2="{x}" y2="{base}"/>'
            f'<text class="tick" text-anchor="middle" x="{x}" y="{base + 16}">'
            f"{brief(tick, percent)}</text>"
        )
    for number, (name, value) in enumerate(values.items()):
        y = TOP + row * number
        parts.append(
            f'<text class="tick" text-anchor="end" x="{left - 6}" y="{y + 12.5}">'
            f'{escape(shortened(name, 18))}</text><rect class="bar" x="{left}" y="{y + 3}" '
            f'width="{tenth(across.at(value) - left)}" height="{row - 6}"/>'
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
    return figure(title, [drawing(title, said, "".join(parts), height=height)], data, note=note)


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
    at = [(tenth(across.at(x)), tenth(up.at(y))) for x, y in zip(curve.x, curve.y, strict=True)]
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
        found += f'<circle class="dot" {style} cx="{x}" cy="{y}" r="{tenth(radius)}"/>'
    return found


def _rules(scale: Scale, percent: bool) -> str:
    """Horizontal lines at a vertical scale's ticks."""
    found = []
    for tick in scale.ticks:
        y = scale.at(tick)
        found.append(
            f'<line class="rule" x1="{LEFT}" y1="{tenth(y)}" x2="{WIDTH - RIGHT}" y2="{tenth(y)}"/>'
            f'<text class="tick" text-anchor="end" x="{LEFT - 6}" y="{tenth(y + 4)}">'
            f"{brief(tick, percent)}</text>"
        )
    return "".join(found)


def _across(scale: Scale, label: str) -> str:
    """The horizontal axis, below the drawing."""
    base = HEIGHT - BOTTOM
    ticks = "".join(
        f'<text class="tick" text-anchor="middle" x="{tenth(scale.at(tick))}" y="{base + 16}">'
        f"{brief(tick)}</text>"
        for tick in scale.ticks
    )
    return (
        f'{ticks}<text class="tick" text-anchor="end" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}">'
        f"{escape(label)}</text>"
    )


def _aligned(curve: Curve, x: Sequence[float]) -> dict[str, Any]:
    """A curve's values at all places of the axis, null where it has none."""
    known = dict(zip(np.asarray(curve.x).tolist(), np.asarray(curve.y).tolist(), strict=True))
    return {"name": curve.name, "y": [short(known[one]) if one in known else None for one in x]}


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
