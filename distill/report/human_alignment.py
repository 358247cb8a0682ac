"""Models beside people, as a page with plots."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distill.analysis.human.alignment import HumanAlignment
from distill.analysis.human.datasets import CATEGORIES, DATASETS
from distill.report import html
from distill.report.human_table import HEADER, alignment_rows, explanations

_DARK, _GREY = "#1d2733", "#9aa7b4"
_MARKERS = "osD^vP*Xph<>"


def write_alignment_report(
    path: Path, result: HumanAlignment, references: Sequence[str], notes: Sequence[str]
) -> Path:
    """Writes a self-contained page.

    Args:
      path: of the page.
      result: what was found.
      references: models that come with the project.
      notes: what a reader should know.
    """
    parts = [
        html.table(HEADER, alignment_rows(result, references)),
        *map(html.paragraph, [*explanations(result, references), *notes]),
        html.section(
            "Error consistency against accuracy",
            html.figure(
                draw_consistency(result),
                "Over all sets of each model. Bars are its intervals. The line is the consistency "
                "of people with each other, the ceiling, and the band its interval.",
            ),
        ),
    ]
    if result.humans.shape_bias is not None:
        parts.append(
            html.section(
                "Shape bias",
                html.figure(
                    draw_shape_bias(result),
                    "Of answers that named an image's shape or its texture, those that named the "
                    "shape. The band reaches from the person of the least to the one of the "
                    "highest; vertical lines are means over categories.",
                ),
            )
        )
    parts.append(
        html.section(
            "Set by set",
            html.figure(draw_sets(result), "Grey: people; of consistency, pairs of people."),
        )
    )
    return html.write(path, html.page("Models beside people", *parts))


def _styles(result: HumanAlignment) -> list[dict]:
    colours = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, max(len(result.models), 1)))
    return [
        dict(
            marker=_MARKERS[number % len(_MARKERS)], color=colour, linestyle="none", label=one.name
        )
        for number, (one, colour) in enumerate(zip(result.models, colours, strict=False))
    ]


def draw_consistency(result: HumanAlignment) -> Figure:
    """Error consistency against accuracy, with intervals and the ceiling."""
    drawing = Figure(figsize=(9, 5))
    axes = drawing.add_subplot()
    humans = result.humans
    for one, style in zip(result.models, _styles(result), strict=True):
        accuracy, _, _, kappa = one.overall
        if accuracy is None or kappa is None:
            continue
        errors = {}
        for axis, figure, value in (("x", "accuracy", accuracy), ("y", "error_consistency", kappa)):
            if figure in one.intervals:
                low, high = one.intervals[figure]
                errors[f"{axis}err"] = [[max(value - low, 0)], [max(high - value, 0)]]
        axes.errorbar(accuracy, kappa, markersize=7, elinewidth=1, **errors, **style)
    accuracy, _, _, ceiling = humans.overall
    if accuracy is not None and ceiling is not None:
        if band := humans.intervals.get("error_consistency"):
            axes.axhspan(*band, color=_GREY, alpha=0.3, linewidth=0)
        axes.axhline(ceiling, color=_DARK, linewidth=1, linestyle="--", label="people (ceiling)")
        axes.plot(accuracy, ceiling, marker="*", markersize=13, color=_DARK, linestyle="none")
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), None)
    axes.set_xlabel("accuracy out of distribution")
    axes.set_ylabel("error consistency with people (κ)")
    _dress(axes)
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return drawing


def draw_shape_bias(result: HumanAlignment) -> Figure:
    """Shape bias by category: models as points, people as a band."""
    drawing = Figure(figsize=(9, 6.5))
    axes = drawing.add_subplot()
    rows = np.arange(len(CATEGORIES))
    low, high = _ends(result)
    axes.barh(rows, high - low, 0.8, low, color=_GREY, alpha=0.35, label="people, each")
    humans = dict(marker="*", color=_DARK, linestyle="none", label="people, pooled")
    observers = [(result.humans, humans), *zip(result.models, _styles(result), strict=True)]
    for one, style in observers:
        if one.shape_bias is None:
            continue
        values = [np.nan if v is None else v for v in one.shape_bias.per_category.values()]
        axes.plot(values, rows, markersize=7, **style)
        if (mean := one.shape_bias.mean_over_categories) is not None:
            axes.axvline(mean, color=style["color"], linewidth=1)
    axes.set_yticks(rows, CATEGORIES)
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("← texture        shape bias        shape →")
    _dress(axes)
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return drawing


def _ends(result: HumanAlignment) -> np.ndarray:
    """The least and the highest shape bias of a person, [2, 16]; NaN where there is none."""
    people = [one.per_category.values() for one in result.subjects.values()]
    ends = np.full((2, len(CATEGORIES)), np.nan)
    for row, values in enumerate(zip(*people, strict=True)):
        if known := [value for value in values if value is not None]:
            ends[:, row] = min(known), max(known)
    return ends


def draw_sets(result: HumanAlignment) -> Figure:
    """Accuracy and error consistency of each set."""
    drawing = Figure(figsize=(11, 6), layout="constrained")
    names = [name for name in DATASETS if name in result.humans.by_dataset]
    panels = drawing.subplots(1, 2, sharey=True)
    labels = {"accuracy": "accuracy", "error_consistency": "error consistency (κ)"}
    humans = dict(marker="*", color=_GREY, linestyle="none", label="people")
    for axes, (figure, label) in zip(panels, labels.items(), strict=True):
        for one, style in (
            (result.humans, humans),
            *zip(result.models, _styles(result), strict=True),
        ):
            found = {
                row: value
                for row, name in enumerate(names)
                if name in one.by_dataset
                and (value := getattr(one.by_dataset[name], figure)) is not None
            }
            size = 11 if one is result.humans else 6
            axes.plot(list(found.values()), list(found), markersize=size, **style)
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel(label)
        _dress(axes)
    panels[0].invert_yaxis()
    panels[1].legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return drawing


def _dress(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
