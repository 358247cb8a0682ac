"""The page of a comparison: what students retain of their teacher, in tables and curves."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from distill.report import html
from distill.runs.compared import interval, shares
from distill.train.progress import format_figure

PAGE = "compare.html"
NOTHING = "—"

Models = Sequence[Mapping[str, Any]]
"""Each with its `name` and its `evaluations`, lines by name."""


SHORT = {
    "corruptions": "mean_accuracy",
    "calibration": "ece",
    "human_alignment": "error_consistency",
    "fairness": "parity_gap",
    "subgroups": "worst_accuracy",
}
"""By kind of evaluation, the figure that stands for it at the top of the page; of others it is
`accuracy`."""


def rows(result: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, ...]]]:
    """A header, and a row for each metric: each model's, and what is retained of the first's."""
    models = result["models"]
    names = [one["name"] for one in models]
    header = ["", *names, *(f"{name} / {names[0]}" for name in names[1:])]
    metrics = dict.fromkeys(
        metric
        for one in models
        for line in one["evaluations"].values()
        if line
        for metric in line["metrics"]
    )
    found = []
    for metric in metrics:
        kept = result["retained"].get(metric, {})
        cells = [_cell(one, metric) for one in models]
        found.append((metric, *cells, *(_ratio(kept.get(name)) for name in names[1:])))
    return header, found


def _cell(model: Mapping[str, Any], metric: str) -> str:
    line = _line_with(model, metric)
    if line is None:
        return NOTHING
    text = format_figure(metric, line["metrics"][metric])
    counts = shares(line).get(metric)
    if counts is None:
        return text
    low, high = interval(*counts)
    return f"{text}\n{low:.3f} to {high:.3f}"


def _line_with(model: Mapping[str, Any], metric: str) -> Mapping[str, Any] | None:
    lines = (line for line in model["evaluations"].values() if line)
    return next((line for line in lines if metric in line["metrics"]), None)


def _ratio(kept: Mapping[str, Any] | None) -> str:
    if kept is None:
        return NOTHING
    low, high = kept["interval"]
    return f"{kept['ratio']:.1%}\n{low:.1%} to {high:.1%}"


def write_comparison(result: Mapping[str, Any], output: Path) -> Path:
    """Writes the page of what `distill.runs.compared.compare` found."""
    models: Models = result["models"]
    header, lines = rows(result)
    parts, short = [], []
    for name in models[0]["evaluations"]:
        mine = [
            (line[0].removeprefix(f"{name}/"), *line[1:])
            for line in lines
            if line[0].startswith(f"{name}/")
        ]
        kinds = {line["config"]["kind"] for one in models if (line := one["evaluations"][name])}
        short += [_in_short(name, kind, mine) for kind in sorted(kinds)]
        drawn = [draw(models, name) for kind in sorted(kinds) for draw in _DRAWN.get(kind, ())]
        parts.append(html.section(name, *drawn, html.wide_table(header, mine)))
    content = html.page(
        f"{' · '.join(one['name'] for one in models)}",
        html.paragraph(
            f"Intervals hold the true value in 95 of 100 samples of images: Wilson's of a share, "
            f"and of what is retained of {models[0]['name']} that of the ratio of two shares. "
            "Where differences are smaller, more images have to tell."
        ),
        html.section("In short", html.wide_table(header, [line for line in short if line])),
        *parts,
        html.section("What was run on what", html.wide_table(*_provenance(models))),
    )
    return html.write(output / PAGE, content)


def _in_short(name: str, kind: str, lines: Sequence[tuple[str, ...]]) -> tuple[str, ...] | None:
    """The row of what matters most of an evaluation."""
    found = {line[0]: line[1:] for line in lines}
    figure = SHORT.get(kind, "accuracy")
    return (f"{name}: {figure.replace('_', ' ')}", *found[figure]) if figure in found else None


def _provenance(models: Models) -> tuple[list[str], list[tuple[str, ...]]]:
    header = ["model", "step", "weights", "evaluation", "images", "shown", "seconds", "when"]
    found = []
    for one in models:
        for name, line in one["evaluations"].items():
            if line is None:
                found.append((one["model"], "", "", name, "needs a model", "", "", ""))
                continue
            data = line.get("data", [])
            images = ", ".join(f"{d['images']:,} of {d['source']} {d['split']}" for d in data)
            view = ", ".join(f"{k} {v}" for k, v in line.get("view", {}).items())
            step, seconds = line.get("step"), f"{line['seconds']:.1f}"
            found.append(
                (
                    one["model"],
                    NOTHING if step is None else f"{step:,}",
                    line.get("weights", NOTHING),
                    name,
                    images or NOTHING,
                    view or NOTHING,
                    seconds,
                    line["time"],
                )
            )
    return header, found


def _details(models: Models, name: str) -> dict[str, Mapping[str, Any]]:
    """What plots are drawn of, by model."""
    lines = {one["name"]: one["evaluations"][name] for one in models}
    return {model: line["details"] for model, line in lines.items() if line}


def corruption_curves(models: Models, name: str) -> str:
    """Accuracy against severity, a panel for each corruption."""
    found = _details(models, name)
    kinds = list(dict.fromkeys(kind for one in found.values() for kind in one["accuracy"]))
    across = min(4, len(kinds))
    down = -(-len(kinds) // across)
    drawing = Figure(figsize=(2.4 * across, 2.1 * down + 0.4), layout="constrained")
    panels = np.atleast_1d(drawing.subplots(down, across, sharex=True, sharey=True)).ravel()
    for panel, kind in zip(panels, kinds, strict=False):
        for model, one in found.items():
            curve = one["accuracy"].get(kind, {})
            severities = [0, *map(int, curve)]
            panel.plot(severities, [one["clean"], *curve.values()], marker=".", label=model)
        panel.set_title(kind.replace("_", " "), fontsize=9)
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[len(kinds) :]:
        panel.set_axis_off()
    panels[0].set_ylim(0, 1.02)
    handles, labels = panels[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return html.figure(drawing, f"{name}: accuracy against severity; 0 is clean")


def reliability(models: Models, name: str) -> str:
    """How often predictions of a confidence are right."""
    found = _details(models, name)
    drawing = Figure(figsize=(4.6, 4.2), layout="constrained")
    axes = drawing.add_subplot()
    axes.plot([0, 1], [0, 1], color="#999", linewidth=1)
    for model, one in found.items():
        bins = one["before"]["reliability"]
        across, up = ([each[key] for each in bins] for key in ("mean_probability", "mean_outcome"))
        (line,) = axes.plot(across, up, linewidth=1, label=model)
        total = sum(each["count"] for each in bins)
        areas = [8 + 300 * each["count"] / total for each in bins]
        axes.scatter(across, up, areas, color=line.get_color(), alpha=0.6, linewidths=0)
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return html.figure(
        drawing,
        f"{name}: accuracy of predictions by their confidence; a disk's area is their number",
    )


_DRAWN: dict[str, tuple[Callable[[Models, str], str], ...]] = {
    "corruptions": (corruption_curves,),
    "calibration": (reliability,),
}
"""By kind of evaluation."""
