"""Charts of two dimensions: tables of counts, and maps of points."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from distill.report.drawing import (
    PALETTE,
    WIDTH,
    drawing,
    figure,
    short,
    shortened,
    table_of,
    tenth,
)
from distill.report.scales import linear


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
            f'<text class="tick" text-anchor="end" x="{left - 6}" y="{tenth(y + cell / 2 + 4)}">'
            f'{text}</text><text class="tick" text-anchor="end" transform="translate('
            f'{tenth(left + cell * (row + 0.5) + 4)} {tenth(top + cell * size + 8)}) rotate(-60)">'
            f"{text}</text>"
        )
        for column in range(size):
            x, count = left + cell * column, int(counts[row, column])
            # What happens once is to be seen, too.
            shade = 0.12 + 0.48 * shares[row, column] if count else 0
            labels.append(f"{rows} {name}, {columns} {names[column]}: {count:,}")
            kind = "right" if row == column else "wrong"
            parts.append(
                f'<rect class="cell {kind}" x="{tenth(x)}" y="{tenth(y)}" '
                f'width="{tenth(cell - 1)}" height="{tenth(cell - 1)}" fill-opacity="{shade:.2f}"/>'
            )
            if count and cell >= 24:
                parts.append(
                    f'<text class="count" text-anchor="middle" x="{tenth(x + cell / 2 - 0.5)}" '
                    f'y="{tenth(y + cell / 2 + 3.5)}">{count}</text>'
                )
    right = int(np.trace(counts))
    said = f"{size} classes; {right:,} of {int(counts.sum()):,} on the diagonal"
    data = {
        "kind": "cells",
        "left": left,
        "top": top,
        "cell": short(cell, 6),
        "size": size,
        "labels": labels,
    }
    header = [f"{rows} \\ {columns}", *names]
    table = table_of(
        title, header, [[n, *map(str, r)] for n, r in zip(names, counts.tolist(), strict=True)]
    )
    drawn_as = drawing(title, said, "".join(parts), height=height)
    return figure(title, [drawn_as], data, table=table, note=note)


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
        drawn = drawing(f"{title}: {name}", said, "".join(parts), height=WIDTH)
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
