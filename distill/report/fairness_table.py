"""How groups fare by a model's decisions, before debiasing and after, as tables."""

from distill.analysis.debiasing import Comparison
from distill.analysis.fairness import Fairness

GROUP_HEADER = ("decision", "group", "cases", "decided 1", "accuracy", "TPR", "FPR")
GAP_HEADER = ("decision", "parity gap", "accuracy gap", "TPR gap", "FPR gap", "accuracy", "ECE")

WORDS = {"hard": "score ≥ 0.5", "score": "score itself"}
"""What decisions that nothing is fitted for are called."""


def group_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """A row for each group by each decision."""
    return [
        (
            name,
            group,
            f"{figures.count:,}",
            *map(_percent, (figures.rate, figures.accuracy, figures.tpr, figures.fpr)),
        )
        for name, one in decisions(comparison)
        for group, figures in one.groups.items()
    ]


def gap_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """A row for each decision: max − min over the groups, and what is of all cases."""
    return [
        (
            name,
            *(_percent(one.gap(figure)) for figure in ("rate", "accuracy", "tpr", "fpr")),
            _percent(one.accuracy),
            f"{one.calibration.equal_width.error():.4f}",
        )
        for name, one in decisions(comparison)
    ]


def decisions(comparison: Comparison) -> list[tuple[str, Fairness]]:
    """All decisions, by what they are called."""
    return [
        *((WORDS[one.decision], one) for one in comparison.before),
        *((f"debiased, ε = {one.debiaser.bias:g}", one.applied) for one in comparison.curve),
    ]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.2%}"
