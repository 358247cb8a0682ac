"""How groups fare by a model's decisions, before debiasing and after, as a page with plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from distill.analysis.debiasing import Comparison
from distill.analysis.fairness import Fairness
from distill.report import html
from distill.report.fairness_table import (
    GAP_HEADER,
    GROUP_HEADER,
    WORDS,
    decisions,
    gap_rows,
    group_rows,
)
from distill.report.reliability import draw_reliability

_DARK, _RED = "#1d2733", "#c0392b"
_MARKERS = {"hard": ("*", 13), "score": ("D", 7)}


def write_fairness_report(
    path: Path, comparison: Comparison, about: Mapping[str, str | None]
) -> Path:
    """Writes a self-contained page.

    Args:
      path: of the page.
      comparison: what it tells.
      about: what was compared: `table`, its columns `score`, `target` and `group`, and
        `held_out_table`, None without any.
    """
    sections = [
        html.section("Gaps", html.table(GAP_HEADER, gap_rows(comparison)), *_notes(comparison)),
    ]
    if comparison.curve:
        caption = (
            "A debiaser for each bias allowed, fitted to held-out cases and then applied. Stars "
            "and diamonds are without one."
        )
        sections.append(
            html.section("What fairness costs", html.figure(draw_trade_off(comparison), caption))
        )
    curves = {name: one.calibration.equal_width for name, one in _reliability(comparison)}
    sections += [
        html.section(
            "Reliability",
            html.figure(
                draw_reliability(curves), "Decisions taken as probabilities of the target."
            ),
        ),
        html.section("Groups", html.table(GROUP_HEADER, group_rows(comparison))),
    ]
    return html.write(path, html.page("Fairness", *_about(comparison, about), *sections))


def draw_trade_off(comparison: Comparison) -> Figure:
    """Parity gap reached against the one allowed; accuracy and ECE against the gap reached."""
    drawing = Figure(figsize=(13, 4.2), layout="constrained")
    gaps, accuracies, errors = drawing.subplots(1, 3)
    allowed = [one.debiaser.bias for one in comparison.curve]
    reached = _parity([one.applied for one in comparison.curve])
    gaps.plot(allowed, allowed, "--", linewidth=1, color=_DARK, zorder=3, label="as allowed")
    fitted = _parity([one.fitted for one in comparison.curve])
    gaps.plot(allowed, fitted, marker="o", markersize=4, color="#9aa7b4", label="held-out cases")
    gaps.plot(allowed, reached, marker="o", color=_RED, label="these cases")
    _dress(gaps, "parity gap allowed, ε", "parity gap reached")
    _draw_accuracies(accuracies, comparison, reached)
    ece = [one.applied.calibration.equal_width.error() for one in comparison.curve]
    errors.plot(reached, ece, marker="o", color=_RED, label="debiased")
    for one in comparison.before:
        _mark(errors, one, one.calibration.equal_width.error())
    _dress(errors, "parity gap reached", "ECE of the decision (positive class)", percent=False)
    return drawing


def _draw_accuracies(axes: Axes, comparison: Comparison, reached: np.ndarray) -> None:
    names = list(comparison.before[0].groups)
    colours = matplotlib.colormaps["viridis"](np.linspace(0.1, 0.8, len(names)))
    for name, colour in zip(names, colours, strict=True):
        mine = [one.applied.groups[name].accuracy for one in comparison.curve]
        axes.plot(reached, mine, marker=".", linewidth=1, color=colour, label=name)
        for one in comparison.before:
            _mark(axes, one, one.groups[name].accuracy, colour, label=False)
    overall = [one.applied.accuracy for one in comparison.curve]
    axes.plot(reached, overall, marker="o", color=_RED, linewidth=2, label="all cases")
    for one in comparison.before:
        _mark(axes, one, one.accuracy)
    _dress(axes, "parity gap reached", "accuracy")


def _mark(axes: Axes, one: Fairness, height: float | None, colour=_RED, label: bool = True) -> None:
    marker, size = _MARKERS[one.decision]
    axes.plot(
        *(_parity([one]), np.array([height], np.float64)),
        marker=marker,
        markersize=size,
        linestyle="none",
        color=colour,
        markerfacecolor="none",
        label=WORDS[one.decision] if label else None,
    )


def _dress(axes: Axes, x: str, y: str, *, percent: bool = True) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    if percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)


def _parity(decisions: Sequence[Fairness]) -> np.ndarray:
    """The parity gap of each decision; there always is one."""
    return np.array([one.gap("rate") for one in decisions], np.float64)


def _reliability(comparison: Comparison) -> list[tuple[str, Fairness]]:
    """The score, and the decision that is allowed least bias."""
    score, *debiased = decisions(comparison)[1:]
    return [score, *debiased[:1]]


def _about(comparison: Comparison, about: Mapping[str, str | None]) -> list[str]:
    texts = [
        f"{comparison.count:,} cases of {about['table']}; score {about['score']}, target "
        f"{about['target']}, groups by {about['group']}."
    ]
    if comparison.curve:
        debiaser = comparison.curve[0].debiaser
        texts.append(
            f"Debiased by thresholds fitted to {comparison.held_out:,} cases of "
            f"{about['held_out_table']}, with γ = {debiaser.gamma:g} around a rate of "
            f"{debiaser.rate:.2%} (arXiv 2106.12887)."
        )
    return [html.paragraph(text) for text in texts]


def _notes(comparison: Comparison) -> list[str]:
    return [
        html.paragraph(text)
        for text in (
            "Gaps are the greatest difference between groups: parity of how often 1 is decided, "
            "whatever the target; TPR and FPR of how often it is where the target is 1 and 0. "
            "Decisions between 0 and 1 are taken by chance; figures are expectations, nothing is "
            "drawn.",
            *comparison.warnings,
        )
    ]
