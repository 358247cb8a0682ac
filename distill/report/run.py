"""The report of one training run: final figures, learning curves, config."""

import json
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from distill.report import html
from distill.train import metrics

Rows = list[dict[str, float]]


def write_run_report(workdir: Path) -> Path:
    """Writes report.html from what the run left in its workdir."""
    summary = json.loads((workdir / "summary.json").read_text())
    config = (workdir / "config.json").read_text()
    rows = [
        (key, f"{value:,.4f}" if "/" in key else f"{value:,}") for key, value in summary.items()
    ]
    content = html.page(
        f"Run {workdir.name}",
        html.section("Final figures", html.table(("figure", "value"), rows)),
        html.section("Learning curves", *curves({workdir.name: metrics.read(workdir)})),
        html.section("Config", html.preformatted(config)),
    )
    return html.write(workdir / "report.html", content)


def curves(runs: Mapping[str, Rows]) -> list[str]:
    """Figures of loss, validation accuracy and, where there is a teacher, agreement."""
    wanted = {
        "train/loss": "training loss",
        "val/accuracy": "validation accuracy",
        "val/agreement": "agreement with the teacher on validation images",
    }
    return [
        html.figure(_plot(runs, metric, label), label)
        for metric, label in wanted.items()
        if any(metric in row for rows in runs.values() for row in rows)
    ]


def _plot(runs: Mapping[str, Rows], metric: str, label: str) -> Figure:
    drawing = Figure(figsize=(7, 3.2))
    axes = drawing.add_subplot()
    for name, rows in runs.items():
        steps, values = metrics.series(rows, metric)
        if len(steps):
            axes.plot(steps, values, label=name)
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if len(runs) > 1:
        axes.legend(frameon=False)
    return drawing
