"""The report of one training run: final figures, learning curves, config."""

import json
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from distill.report import html
from distill.train import metrics
from distill.train.progress import format_figure

Rows = list[dict[str, float]]

CURVES = (
    ("train/loss", "training loss"),
    ("train/learning_rate", "learning rate"),
    ("val/accuracy", "validation accuracy"),
    ("val/agreement", "agreement with the teacher on validation images"),
)


def write_run_report(workdir: Path) -> Path:
    """Writes report.html from what the run left in its workdir."""
    summary = json.loads((workdir / "summary.json").read_text(encoding="utf-8"))
    config = (workdir / "config.json").read_text(encoding="utf-8")
    rows = [(key, format_figure(key, value)) for key, value in summary.items()]
    run = {workdir.name: metrics.read(workdir)}
    content = html.page(
        f"Run {workdir.name}",
        html.section("Final figures", html.table(("figure", "value"), rows)),
        html.section("Learning curves", *(curve(run, *shown) for shown in CURVES)),
        html.section("Config", html.preformatted(config)),
    )
    return html.write(workdir / "report.html", content)


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
