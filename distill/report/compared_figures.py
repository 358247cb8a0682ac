"""Curves and points of several models, each evaluation's in one figure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from distill.analysis.human.datasets import CATEGORIES
from distill.analysis.intervals import wilson_interval
from distill.report import charts, dense_figures, html
from distill.report.curves import grid

Models = Sequence[Mapping[str, Any]]
"""Each with its `name` and its `evaluations`, lines by name."""

_DARK, _GREY = "#1d2733", "#9aa7b4"
_MARKERS = "osD^vPXph<>"
# In inches; text can still be read where a phone shows the figure.
_WIDTH = 5.0
_PEOPLE = dict(color=_DARK, marker="*", markersize=13)


def _lines(models: Models, name: str) -> dict[str, Mapping[str, Any]]:
    """The lines of an evaluation by model, of those that have one."""
    lines = {one["name"]: one["evaluations"][name] for one in models}
    return {model: line for model, line in lines.items() if line}


def _details(models: Models, name: str) -> dict[str, Mapping[str, Any]]:
    """What plots are drawn of, by model."""
    return {model: line["details"] for model, line in _lines(models, name).items()}


def corruption_curves(models: Models, name: str) -> str:
    """Accuracy against severity, a chart for each corruption."""
    found = _details(models, name)
    kinds = dict.fromkeys(kind for one in found.values() for kind in one["accuracy"])
    drawn = []
    for kind in kinds:
        curves = []
        for model, one in found.items():
            curve = one["accuracy"].get(kind, {})
            severities = [0, *map(int, curve)]
            curves.append(charts.Curve(model, severities, [one["clean"], *curve.values()]))
        title = f"{name}: {kind.replace('_', ' ')}"
        drawn.append(
            charts.lines(title, curves, x_label="severity", y_limits=(0.0, 1.0), percent=True)
        )
    said = "Accuracy against the severity of each corruption; 0 is clean."
    return html.paragraph(said) + grid(drawn)


def reliability(models: Models, name: str) -> str:
    """How often predictions of a confidence are right."""
    curves = []
    for model, one in _details(models, name).items():
        bins = one["before"]["reliability"]
        across, up = ([each[key] for each in bins] for key in ("mean_probability", "mean_outcome"))
        total = sum(each["count"] for each in bins)
        curves.append(charts.Curve(model, across, up, [each["count"] / total for each in bins]))
    return charts.lines(
        f"{name}: accuracy of predictions by their confidence",
        curves,
        x_label="confidence",
        x_limits=(0.0, 1.0),
        y_limits=(0.0, 1.0),
        percent=True,
        diagonal=True,
        note="A disk's area is the number of predictions; on the dashed line, confidence is what "
        "it says.",
    )


def trade_off(models: Models, name: str) -> str:
    """What accuracy is left where groups are treated more and more alike."""
    drawing = Figure(figsize=(_WIDTH, 4.0), layout="constrained")
    axes = drawing.add_subplot()
    for number, (model, one) in enumerate(_details(models, name).items()):
        curve = sorted((point["parity_gap"], point["accuracy"]) for point in one["debiased"])
        (line,) = axes.plot(*zip(*curve, strict=True), **_style(number), linewidth=1, label=model)
        hard = one["before"]["hard"]
        axes.plot(
            hard["parity_gap"],
            hard["accuracy"],
            marker="*",
            markersize=13,
            markerfacecolor="none",
            color=line.get_color(),
        )
    axes.set(xlabel="parity gap reached", ylabel="accuracy")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.locator_params(axis="x", nbins=6)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    _dress(axes)
    axes.legend(frameon=False)
    return html.figure(
        drawing,
        f"{name}: accuracy against the parity gap, of debiasers for each bias allowed; stars are "
        "decisions at a score of 0.5, without one",
    )


def group_accuracy(models: Models, name: str) -> str:
    """How often decisions at 0.5 are right, group by group."""
    found = {
        model: one["before"]["hard"]["groups"] for model, one in _details(models, name).items()
    }
    groups = list(dict.fromkeys(group for one in found.values() for group in one))
    drawing = Figure(
        figsize=(_WIDTH, 0.9 + len(groups) * (0.3 + 0.18 * len(found))), layout="constrained"
    )
    axes = drawing.add_subplot()
    for number, (model, one) in enumerate(found.items()):
        there = [row for row, group in enumerate(groups) if group in one]
        shares = np.array([one[groups[row]]["accuracy"] for row in there])
        counts = [one[groups[row]]["count"] for row in there]
        ends = np.array(
            [
                wilson_interval(round(share * count), count)
                for share, count in zip(shares, counts, strict=True)
            ]
        )
        rows = np.array(there) + 0.6 * ((number + 0.5) / len(found) - 0.5)
        reach = abs(ends.T - shares)
        axes.errorbar(
            shares, rows, xerr=reach, **_style(number), linestyle="none", elinewidth=1, label=model
        )
    axes.set_yticks(range(len(groups)), groups)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlabel("accuracy of decisions at a score of 0.5")
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.locator_params(axis="x", nbins=6)
    _dress(axes)
    _legend_above(drawing, axes)
    return html.figure(drawing, f"{name}: accuracy of each group, with 95% intervals")


def error_consistency(models: Models, name: str) -> str:
    """Whether models err where people err, against how often they are right."""
    own, references, people = _observers(models, name)
    drawing = Figure(figsize=(_WIDTH, 4.4), layout="constrained")
    axes = drawing.add_subplot()
    for number, one in enumerate(references):
        _point(axes, one, _reference_style(number), one["name"])
    for number, (model, one) in enumerate(own.items()):
        _point(axes, one, _style(number), model)
    if (ceiling := people["error_consistency"]) is not None:
        if band := people["intervals"].get("error_consistency"):
            axes.axhspan(*band, color=_GREY, alpha=0.3, linewidth=0)
        axes.axhline(ceiling, color=_DARK, linewidth=1, linestyle="--")
        _point(axes, people, _PEOPLE, "people")
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), None)
    axes.set(xlabel="accuracy out of distribution", ylabel="error consistency with people (κ)")
    _dress(axes)
    _legend_above(drawing, axes)
    return html.figure(
        drawing,
        f"{name}: error consistency against accuracy, bars are intervals; people with each other "
        "are the ceiling. Grey models come with the project",
    )


def shape_bias(models: Models, name: str) -> str:
    """Whether answers name an image's shape or its texture; empty without the set cue-conflict."""
    own, references, people = _observers(models, name)
    if people["cue_conflict"] is None:
        return ""
    drawing = Figure(figsize=(_WIDTH, 6.2), layout="constrained")
    axes = drawing.add_subplot()
    observers = [
        *((one, _reference_style(number), one["name"]) for number, one in enumerate(references)),
        *((one, _style(number), model) for number, (model, one) in enumerate(own.items())),
        (people, _PEOPLE, "people"),
    ]
    for one, style, label in observers:
        if one["cue_conflict"] is None:
            continue
        each = one["cue_conflict"]["per_category"]
        shares = {
            row: share
            for row, category in enumerate(CATEGORIES)
            if (share := each[category]["shape_bias"]) is not None
        }
        axes.plot([*shares.values()], [*shares], linestyle="none", label=label, **style)
        if shares:
            axes.axvline(float(np.mean([*shares.values()])), color=style["color"], linewidth=1)
    axes.set_yticks(range(len(CATEGORIES)), CATEGORIES)
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("← texture        shape bias        shape →")
    _dress(axes)
    _legend_above(drawing, axes)
    return html.figure(
        drawing,
        f"{name}: of answers that named an image's shape or its texture, those that named the "
        "shape; lines are means over categories. Grey models come with the project",
    )


def _observers(
    models: Models, name: str
) -> tuple[dict[str, Mapping[str, Any]], list[Mapping[str, Any]], Mapping[str, Any]]:
    """What was found of each model, of those that come with the project, and of people."""
    own, references, people = {}, {}, {}
    for model, line in _lines(models, name).items():
        for one in line["details"]["models"]:
            if one["name"] == line["config"]["name"]:
                own[model] = one
            else:
                references[one["name"]] = one
        people = line["details"]["humans"]
    return own, [*references.values()], people


def _point(axes: Axes, one: Mapping[str, Any], style: Mapping[str, Any], label: str) -> None:
    """Accuracy and error consistency of an observer, with intervals; nothing where one lacks."""
    place = [one["accuracy"], one["error_consistency"]]
    if None in place:
        return
    errors = {}
    for axis, figure in (("xerr", "accuracy"), ("yerr", "error_consistency")):
        if ends := one["intervals"].get(figure):
            low, high = ends
            errors[axis] = [[max(one[figure] - low, 0)], [max(high - one[figure], 0)]]
    axes.errorbar(*place, linestyle="none", elinewidth=1, label=label, **errors, **style)


def _style(number: int) -> dict[str, Any]:
    """The look of a model, by its place among those compared."""
    return dict(color=f"C{number % 10}", marker=_MARKERS[number % len(_MARKERS)], markersize=6)


def _reference_style(number: int) -> dict[str, Any]:
    return dict(color=_GREY, marker="+x"[number % 2], markersize=6)


def _dress(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _legend_above(drawing: Figure, axes: Axes) -> None:
    """Two entries a row, as names are long."""
    handles, labels = axes.get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)


def _of_pixels(draw: Callable[[dense_figures.Lines, str], str]) -> Callable[[Models, str], str]:
    return lambda models, name: draw(_lines(models, name), name)


DRAWN: dict[str, tuple[Callable[[Models, str], str], ...]] = {
    "corruptions": (corruption_curves,),
    "calibration": (reliability,),
    "fairness": (trade_off, group_accuracy),
    "human_alignment": (error_consistency, shape_bias),
    "segmentation": tuple(
        map(
            _of_pixels,
            (dense_figures.masks, dense_figures.token_colours, dense_figures.worst_masks),
        )
    ),
    "depth": tuple(
        map(
            _of_pixels,
            (dense_figures.depths, dense_figures.token_colours, dense_figures.worst_depths),
        )
    ),
}
"""By kind of evaluation."""
