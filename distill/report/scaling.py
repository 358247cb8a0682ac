"""A scaling study's report: error against compute, the fitted law, and all runs."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from distill.laws.law import PARAMETERS, Fit, ScalingLaw
from distill.laws.study import Point, Trend
from distill.report import html

HEADER = ("size", "parameters", "steps", "images seen", "training FLOPs")
LABELS = {"error": "held-out error rate", "cross_entropy": "held-out cross-entropy (nats)"}


def study_header(trends: Sequence[Trend]) -> tuple[str, ...]:
    """The columns of `study_rows`."""
    return (*HEADER, *(trend.measure.replace("_", "-") for trend in trends))


def study_rows(points: Sequence[Point], trends: Sequence[Trend]) -> list[tuple[str, ...]]:
    """A row per model; a star marks what is on the frontier of its column."""
    return [
        (
            point.size,
            f"{point.parameters:,}",
            f"{point.steps:,}",
            f"{point.images:,}",
            f"{point.flops:.2e}",
            *(
                f"{point.errors[trend.measure]:.4f} {'*' if trend.frontier[number] else ' '}"
                for trend in trends
            ),
        )
        for number, point in enumerate(points)
    ]


def law_rows(fit: Fit) -> list[tuple[str, str, str, str]]:
    """A row per parameter: name, value, interval, meaning."""
    meanings = {
        "a": "scale; FLOPs to the power of b",
        "b": "exponent",
        "c": "error that is left however much is computed",
        "d": "FLOPs below which more of them hardly help",
    }
    intervals = fit.intervals()
    return [
        (
            name,
            f"{getattr(fit.law, name):.3g}",
            "{:.3g} to {:.3g}".format(*intervals[name]),
            meanings[name],
        )
        for name in PARAMETERS
    ]


def write_scaling_report(
    workdir: Path, points: Sequence[Point], trends: Sequence[Trend], summary: Mapping[str, Any]
) -> Path:
    """Writes report.html.

    Args:
      workdir: of the study.
      points: all models.
      trends: a section each.
      summary: of the study; its cost and the number of held-out images are told.
    """
    table = html.table(study_header(trends), study_rows(points, trends))
    content = html.page(
        "Error against compute",
        *map(html.paragraph, _notes(summary)),
        *(_trend_section(points, trend) for trend in trends),
        html.section("Models", html.paragraph("A star marks the frontier of a column."), table),
    )
    return html.write(workdir / "report.html", content)


def _notes(summary: Mapping[str, Any]) -> tuple[str, ...]:
    images, flops = summary["held_out_images"], summary["flops"]
    return (
        "The law E = a·(C + d)^−b + c is fitted to the frontier: the models that no other beats "
        "in both compute and error. Its intervals say how far noise could have moved the fit to "
        "these points, and nothing about other sizes, data or recipes.",
        f"Errors are over {images:,} images held out of training, validation and test split "
        f"together; one image is {1 / images:.2%}.",
        "Compute is what training a model alone takes, three forward passes of its encoder per "
        f"image. The study itself took {flops['spent']:.2e} FLOPs, as all models of a size share "
        f"one run up to their cooldowns; apart, they would have taken {flops['apart']:.2e}.",
    )


def _trend_section(points: Sequence[Point], trend: Trend) -> html.Section:
    label = LABELS[trend.measure]
    caption = "Each line is a size, each point a finished model"
    if trend.fit is None:
        body = [html.paragraph(f"No law is fitted: {trend.problem}.")]
    else:
        share = f"{trend.fit.confidence:.0%}"
        caption += f"; the band is the fit's {share} confidence interval"
        body = [html.table(("E = a·(C + d)^−b + c", "fit", share, ""), law_rows(trend.fit))]
    return html.section(
        label[0].upper() + label[1:],
        html.figure(draw_trend(points, trend), f"{caption}."),
        *body,
    )


def draw_trend(points: Sequence[Point], trend: Trend) -> Figure:
    """Error against compute on log-log axes: sizes, frontier, fit, band and asymptote."""
    drawing = Figure(figsize=(9, 5))
    axes = drawing.add_subplot()
    flops = np.array([point.flops for point in points])
    errors = np.array([point.errors[trend.measure] for point in points])
    sizes = {point.size: point.parameters for point in points}
    colours = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, len(sizes)))
    for (size, parameters), colour in zip(sizes.items(), colours, strict=True):
        mine = np.array([point.size == size for point in points])
        order = np.argsort(flops[mine])
        axes.plot(
            *(flops[mine][order], errors[mine][order]),
            marker="o",
            markersize=5,
            linewidth=1.2,
            color=colour,
            label=f"{size}: {parameters:,} parameters",
        )
    axes.plot(
        *(flops[trend.frontier], errors[trend.frontier]),
        marker="o",
        markersize=10,
        linestyle="none",
        color="#c0392b",
        markerfacecolor="none",
        markeredgewidth=1.4,
        label="on the frontier",
    )
    # What is zero has no place on a logarithmic axis.
    shown = errors[errors > 0]
    axes.set_ylim(shown.min(initial=1.0) / 1.25, shown.max(initial=0.1) * 1.25)
    axes.set_xscale("log")
    axes.set_yscale("log")
    if trend.fit is not None:
        _draw_fit(axes, trend.fit, flops)
    _dress(axes, trend.measure)
    return drawing


def _draw_fit(axes: Axes, fit: Fit, flops: np.ndarray) -> None:
    compute = np.geomspace(flops.min() / 1.3, flops.max() * 4, 200)
    low, high = fit.band(compute)
    law, dark = fit.law, "#1d2733"
    share = f"its {fit.confidence:.0%} confidence band"
    axes.fill_between(compute, low, high, color=dark, alpha=0.13, linewidth=0, label=share)
    axes.plot(compute, law.predict(compute), color=dark, linewidth=1.8, label="fitted law")
    bottom, top = axes.get_ylim()
    bottom = min(bottom, float(law.predict(compute[-1])) / 1.25)
    # An asymptote far below everything measured would leave no room for what was.
    if law.c > bottom / 4:
        bottom = min(bottom, law.c / 1.25)
        axes.axhline(
            law.c, color=dark, linewidth=1, linestyle=":", label=f"asymptote c = {law.c:.2g}"
        )
    axes.set_ylim(bottom, top)
    axes.set_xlim(compute[0], compute[-1])
    axes.set_title(_equation(law), fontsize=12)


def _equation(law: ScalingLaw) -> str:
    def number(value: float) -> str:
        mantissa, _, exponent = f"{value:.2g}".partition("e")
        return rf"{mantissa}\times10^{{{int(exponent)}}}" if exponent else mantissa

    a, b, c, d = map(number, dataclasses.astuple(law))
    return rf"$E = {a}\,(C + {d})^{{-{b}}} + {c}$"


def _dress(axes: Axes, measure: str) -> None:
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    percent = measure == "error"
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{100 * value:g}%" if percent else f"{value:g}")
    )
    axes.set_xlabel("training compute C (FLOPs)")
    axes.set_ylabel(f"{LABELS[measure]} E")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
