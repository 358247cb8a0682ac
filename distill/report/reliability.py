"""Reliability diagrams: how often what is said with some probability is so."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from distill.analysis.calibration import ReliabilityCurve

_LABELS = {
    "top_label": ("confidence of the prediction", "predictions that are right"),
    "positive_class": ("probability of the positive class", "cases that are positive"),
}
_OUTCOME, _GAP, _DARK = "#3b6ea5", "#c0392b", "#1d2733"


def draw_reliability(curves: Mapping[str, ReliabilityCurve]) -> Figure:
    """A diagram for each curve, side by side, with the share of examples in each bin below.

    Args:
      curves: by title.
    """
    drawing = Figure(figsize=(0.6 + 4.4 * len(curves), 5.2), layout="constrained")
    grid = drawing.subplots(
        2, len(curves), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1)
    )
    for (title, curve), axes, counts in zip(curves.items(), *grid, strict=True):
        _draw_curve(axes, curve)
        error = curve.error()
        axes.set_title(title if error is None else f"{title}\nECE {error:.4f}", fontsize=11)
        _draw_counts(counts, curve)
        counts.set_xlabel(_LABELS[curve.convention][0])
    grid[0, 0].set_ylabel(_LABELS[next(iter(curves.values())).convention][1])
    grid[0, 0].legend(frameon=False, fontsize=9, loc="upper left")
    grid[1, 0].set_ylabel("share of all")
    return drawing


def _draw_curve(axes: Axes, curve: ReliabilityCurve) -> None:
    """Bars up to how often it is so, and what is between that and the mean probability."""
    shown = np.flatnonzero(curve.count)
    count = curve.count[shown]
    outcome, probability = curve.outcome[shown] / count, curve.probability[shown] / count
    left, width = curve.edges[:-1][shown], np.diff(curve.edges)[shown]
    axes.bar(left, outcome, width, align="edge", color=_OUTCOME, alpha=0.75, label="is so")
    axes.bar(
        left,
        probability - outcome,
        width,
        bottom=outcome,
        align="edge",
        facecolor="none",
        edgecolor=_GAP,
        hatch="////",
        linewidth=0.8,
        label="from there to the mean probability",
    )
    axes.plot([0, 1], [0, 1], linestyle="--", linewidth=1, color=_DARK)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    _dress(axes)


def _draw_counts(axes: Axes, curve: ReliabilityCurve) -> None:
    share = curve.count / max(curve.count.sum(), 1)
    axes.bar(curve.edges[:-1], share, np.diff(curve.edges), align="edge", color="#9aa7b4")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    _dress(axes)


def _dress(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
