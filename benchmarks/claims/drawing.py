"""Lines with a band of one standard deviation over seeds."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def lines(
    axes: "Axes",
    x: Sequence[float],
    named: Mapping[str, Sequence[Sequence[float]]],
    *,
    xlabel: str,
    ylabel: str,
    log: str = "x",
) -> None:
    """A line for each setting, its mean and deviation over seeds.

    Args:
      axes: drawn on.
      x: of each point.
      named: of each setting, [points][seeds]; what is None or not finite is left out.
      xlabel: below the axis.
      ylabel: above the panel.
      log: which axes are logarithmic, of `x` and `y`.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    for number, (name, points) in enumerate(named.items()):
        values = [np.array([one for one in seeds if one is not None], float) for seeds in points]
        means = [one.mean() if len(one) else np.nan for one in values]
        spread = [one.std(ddof=1) if len(one) > 1 else 0.0 for one in values]
        axes.errorbar(
            x, means, spread, label=name, marker="osD^vP"[number % 6], capsize=3, markersize=4
        )
    if "x" in log:
        axes.set_xscale("log")
        axes.set_xticks(x, [f"{one:,g}" if one >= 1 else f"{one:g}" for one in x])
        axes.minorticks_off()
    if "y" in log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(xlabel)
    axes.set_title(ylabel, fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
