"""The report of one training run: final figures, learning curves, evaluations, config."""

import json
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from distill.json_files import read_json
from distill.parallel.printed import say
from distill.report import html
from distill.report.compared_figures import DRAWN
from distill.runs.evaluated import FILE, kept
from distill.train import metrics
from distill.train.progress import format_figure
from distill.train.workdir import read_summary

Rows = list[dict[str, float]]

CURVES = (
    ("train/loss", "training loss"),
    ("train/learning_rate", "learning rate"),
    ("val/accuracy", "validation accuracy"),
    ("val/mean_iou", "mean intersection over union of validation images' pixels"),
    ("val/rmse", "error of validation images' depths"),
    ("val/agreement", "agreement with the teacher on validation images"),
)


def write_run_report(workdir: Path) -> Path:
    """Writes report.html from what the run left in its workdir, and evaluations of it."""
    summary = read_summary(workdir) or {}
    config = json.dumps(read_json(workdir / "config.json"), indent=2)
    rows = [(key, format_figure(key, value)) for key, value in summary.items()]
    run = {workdir.name: metrics.read(workdir)}
    content = html.page(
        f"Run {workdir.name}",
        html.section("Final figures", html.table(("figure", "value"), rows)),
        html.section("Learning curves", *(curve(run, *shown) for shown in CURVES)),
        *_evaluations(workdir),
        html.section("Config", html.preformatted(config)),
    )
    return html.write(workdir / "report.html", content)


def refresh_run_report(workdir: Path) -> None:
    """Writes the report of a finished run again, which then has what is evaluated of it since."""
    if (workdir / "report.html").exists() and (workdir / "summary.json").exists():
        try:
            write_run_report(workdir)
        except OSError as error:
            say(f"{workdir / 'report.html'} stays as it was: {error.strerror}")


def _evaluations(workdir: Path) -> list[str]:
    """A section for each evaluation of the finished run; of those of one name, the latest."""
    lines = {line["name"]: line for line in kept(workdir / FILE)}
    found = []
    for name, line in lines.items():
        model = [{"name": workdir.name, "evaluations": {name: line}}]
        # Of a head, the split's evaluation is of what it tells of pixels.
        kind = line.get("details", {}).get("drawn_as") or line["config"].get("kind", "")
        drawn = [draw(model, name) for draw in DRAWN.get(kind, ())]
        metrics = line["metrics"].items()
        rows = [(key.removeprefix(f"{name}/"), format_figure(key, v)) for key, v in metrics]
        when = f"{line['time']}, step {line['step']}" if line.get("step") else line["time"]
        table = html.wide_table(("figure", when), rows)
        found.append(html.section(f"Evaluated: {name}", *drawn, table))
    return found


def curve(runs: Mapping[str, Rows], metric: str, label: str) -> str:
    """A figure of one metric over the steps of each run that has it; empty if none has."""
    drawing = Figure(figsize=(7, 3.2))
    axes = drawing.add_subplot()
    for name, rows in runs.items():
        steps, values = metrics.series(rows, metric)
        if len(steps):
            axes.plot(steps, values, label=name, marker="." if len(steps) < 30 else None)
    if not axes.lines:
        return ""
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if len(axes.lines) > 1:
        axes.legend(frameon=False)
    return html.figure(drawing, label)
