"""The page of a comparison: what students retain of their teacher, in tables and curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.report import html
from distill.report.compared_figures import DRAWN, Models
from distill.runs.retained import images_of, interval, recorded_images, shares
from distill.train.progress import format_figure

PAGE = "compare.html"
NOTHING = "—"
OTHER_IMAGES = "other images"

SHORT = {
    "corruptions": "mean_accuracy",
    "calibration": "ece",
    "human_alignment": "error_consistency",
    "fairness": "parity_gap",
    "subgroups": "worst_accuracy",
    "segmentation": "mean_iou",
    "depth": "rmse",
    "propagation": "j_and_f",
}
"""By kind of evaluation, the figure that stands for it at the top of the page; of others it is
`accuracy`."""


LOWER = frozenset({"ece", "parity_gap", "rmse"})
"""Of these figures, those that are better the lower they are."""


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
        kept = {
            **dict.fromkeys(_elsewhere(result, metric), OTHER_IMAGES),
            **{name: _ratio(one) for name, one in result["retained"].get(metric, {}).items()},
        }
        cells = [_cell(one, metric) for one in models]
        found.append((metric, *cells, *(kept.get(name, NOTHING) for name in names[1:])))
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


def _elsewhere(result: Mapping[str, Any], metric: str) -> list[str]:
    """The models whose figure is of other images than the first one's."""
    by_evaluation = result["other_images"]
    return [
        one["name"]
        for one in result["models"]
        if (line := _line_with(one, metric)) and one["name"] in by_evaluation.get(line["name"], {})
    ]


def warnings(result: Mapping[str, Any]) -> list[str]:
    """Which figures beside each other are of other images."""
    first = result["models"][0]["name"]
    return [
        f"warning: {evaluation}: {name} is of other images than {first}, {said}; "
        f"nothing is said to be retained{_to_type(result, evaluation, name)}"
        for evaluation, models in result["other_images"].items()
        for name, said in models.items()
    ]


def _to_type(result: Mapping[str, Any], evaluation: str, name: str) -> str:
    """What makes a model be evaluated on the images of the first one, where a split does."""
    lines = {one["name"]: one["evaluations"].get(evaluation) for one in result["models"]}
    line, first = lines[name], lines[result["models"][0]["name"]]
    ours, theirs = recorded_images(line or {}), recorded_images(first or {})
    if len(ours) != 1 or len(theirs) != 1 or ours[0]["source"] != theirs[0]["source"]:
        return ""
    if "split" not in (line or {}).get("config", {}):
        return ""
    split = theirs[0]["split"]
    if split is None or split == ours[0]["split"]:
        return ""
    return f". --config.evals.{evaluation}.split={split} evaluates all on the same images"


def _ratio(kept: Mapping[str, Any]) -> str:
    if kept["interval"] is None:
        return f"{kept['ratio']:.1%}"
    low, high = kept["interval"]
    return f"{kept['ratio']:.1%}\n{low:.1%} to {high:.1%}"


def write_comparison(result: Mapping[str, Any], output: Path) -> Path:
    """Writes the page of what `distill.runs.compared.compare` found."""
    models: Models = result["models"]
    first, *others = (one["name"] for one in models)
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
        drawn = [draw(models, name) for kind in sorted(kinds) for draw in DRAWN.get(kind, ())]
        parts.append(html.section(name, *drawn, *_tables(header, mine)))
    content = html.page(
        f"What is left of {first} in {', '.join(others)}" if others else f"{first}, evaluated",
        html.paragraph(
            f"Intervals hold the true value in 95 of 100 samples of images: Wilson's of a share, "
            f"and of what is retained of {models[0]['name']} that of the ratio of two shares. "
            "Where differences are smaller, more images have to tell."
        ),
        *map(html.paragraph, warnings(result)),
        html.section(
            "In short",
            _retained(result),
            html.wide_table(
                _ratios_first(header, len(models)),
                [_ratios_first(line, len(models)) for line in short if line],
            ),
        ),
        *parts,
        html.section("What was run on what", html.wide_table(*_provenance(models))),
    )
    return html.write(output / PAGE, content)


# As many are seen at once.
_MOST_CARDS = 6


def _retained(result: Mapping[str, Any]) -> str:
    """Of the figures that stand for evaluations, how much others keep of the first model's."""
    first, found = result["models"][0], []
    for name, line in first["evaluations"].items():
        figure = SHORT.get(line["config"]["kind"], "accuracy") if line else ""
        for other, one in result["retained"].get(f"{name}/{figure}", {}).items():
            ratio, *within = _ratio(one).split("\n")
            what = f"{other}: {name} {figure.replace('_', ' ')}"
            beside = f"of {first['name']}'s is kept" + "".join(f" ({one})" for one in within)
            found.append(html.card(what, ratio, beside))
    return html.cards(*found[:_MOST_CARDS]) if found else ""


def _tables(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """The figures of an evaluation; those of debiasers, of which there are many, on demand."""
    debiased = [line for line in lines if line[0].startswith("debiased/")]
    found = [html.wide_table(header, [line for line in lines if line not in debiased])]
    if debiased:
        found.append(html.details("Debiased decisions", html.wide_table(header, debiased)))
    return found


def _ratios_first(cells: Sequence[str], models: int) -> list[str]:
    """What is retained before what it is of, as a phone shows two columns or three."""
    return [cells[0], *cells[1 + models :], *cells[1 : 1 + models]]


def _in_short(name: str, kind: str, lines: Sequence[tuple[str, ...]]) -> tuple[str, ...] | None:
    """The row of what matters most of an evaluation."""
    found = {line[0]: line[1:] for line in lines}
    figure = SHORT.get(kind, "accuracy")
    better = "lower is better" if figure in LOWER else "higher is better"
    label = f"{name}: {figure.replace('_', ' ')}\n{better}"
    return (label, *found[figure]) if figure in found else None


def _provenance(models: Models) -> tuple[list[str], list[tuple[str, ...]]]:
    header = ["model", "step", "weights", "evaluation", "images", "shown", "seconds", "when"]
    found = []
    for one in models:
        for name, line in one["evaluations"].items():
            if line is None:
                found.append((one["model"], "", "", name, "needs a model", "", "", ""))
                continue
            view = ", ".join(f"{k} {v}" for k, v in line.get("view", {}).items())
            step, seconds = line.get("step"), f"{line['seconds']:.1f}"
            found.append(
                (
                    one["model"],
                    NOTHING if step is None else f"{step:,}",
                    line.get("weights", NOTHING),
                    name,
                    images_of(line),
                    view or NOTHING,
                    seconds,
                    line["time"],
                )
            )
    return header, found
