"""Fairness of a binary decision: how groups fare by it.

A case has a score p, the probability that its target is 1, its target y, and a group s. A decision
is h, the probability with which 1 is decided. Everything is an expectation over h; nothing is
drawn.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np

from distill.analysis.calibration import Calibration, binary_calibration, check_probabilities
from distill.analysis.predictions import Predictions
from distill.analysis.tables import Table, table_of_predictions
from distill.errors import UserError

FEW = 100
"""Figures of a group with fewer cases are more noise than not."""

Decision = Literal["hard", "score", "debiased"]
"""What h is: 1 from p = 0.5 on and else 0; p itself; what `distill.analysis.debiasing` makes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cases:
    """N cases in K groups.

    Raises:
      UserError: if scores are no probabilities, targets are other than 0 and 1, there are fewer
        than two groups, or one has no cases.
    """

    score: np.ndarray
    """float64 [N], of the target 1."""
    target: np.ndarray
    """bool [N]."""
    group: np.ndarray
    """int64 [N], numbers of the groups."""
    groups: tuple[str, ...]
    """Their names."""
    source: str = "the cases"
    """What holds them, for messages."""

    def __post_init__(self):
        shapes = {array.shape for array in (self.score, self.target, self.group)}
        if len(shapes) != 1 or self.score.ndim != 1:
            raise UserError(
                f"{self.source}: scores, targets and groups have the shapes {self.score.shape}, "
                f"{self.target.shape} and {self.group.shape}; expected one of each for each case"
            )
        check_probabilities(self.score, f"{self.source}: score")
        if len(self.groups) < 2:
            raise UserError(
                f"{self.source}: all cases are of the group {', '.join(self.groups) or 'none'}; "
                "expected two groups or more to compare"
            )
        for name, count in zip(self.groups, self.counts(), strict=True):
            if not count:
                raise UserError(f"{self.source}: the group {name} has no cases; expected some")

    @classmethod
    def of(
        cls,
        score: np.ndarray,
        target: np.ndarray,
        group: np.ndarray,
        *,
        groups: Sequence[str] | None = None,
        source: str = "the cases",
    ) -> Self:
        """Cases of plain arrays.

        Args:
          score: [N] in [0, 1].
          target: [N], 0 or 1.
          group: [N], texts or numbers.
          groups: the groups that there have to be; None takes those that there are.
          source: what holds them, for messages.

        Raises:
          UserError: as the class, or for a group that is none of `groups`.
        """
        target = np.asarray(target)
        if not np.isin(target, (0, 1)).all():
            raise UserError(f"{source}: targets are {np.unique(target)[:5]}; expected 0 and 1")
        found = np.asarray(group).astype(str)
        names = sorted(set(found.tolist())) if groups is None else list(groups)
        if strange := sorted(set(found.tolist()) - set(names)):
            raise UserError(
                f"{source}: the group {strange[0]} is none of {', '.join(names)}, those of the "
                "cases to fit to"
            )
        numbers = {name: number for number, name in enumerate(names)}
        return cls(
            score=np.asarray(score, np.float64),
            target=target.astype(bool),
            group=np.array([numbers[name] for name in found.tolist()], np.int64),
            groups=tuple(names),
            source=source,
        )

    def __len__(self) -> int:
        return len(self.score)

    def counts(self) -> np.ndarray:
        """Cases of each group, int64 [K]."""
        return np.bincount(self.group, minlength=len(self.groups))

    def of_group(self, number: int) -> np.ndarray:
        """Which cases are of a group, bool [N]."""
        return self.group == number

    def warnings(self, use: str = "") -> list[str]:
        """What a reader of figures of these cases has to know.

        Args:
          use: what they are for, as `, measured on`.
        """
        return [
            f"{self.source}{use}: the group {name} has {count} cases; figures of fewer than "
            f"{FEW} are mostly noise"
            for name, count in zip(self.groups, self.counts().tolist(), strict=True)
            if count < FEW
        ]


def cases_of_table(
    table: Table, *, score: str, target: str, group: str, groups: Sequence[str] | None = None
) -> Cases:
    """Cases by the names of a table's columns.

    Raises:
      UserError: that names the line of what is not as it should be, or as `Cases`.
    """
    return Cases.of(
        table.numbers(score, 0, 1),
        table.binary(target),
        np.array([f"{group}={text}" for text in table.texts(group).tolist()]),
        groups=groups,
        source=table.source,
    )


def cases_of_predictions(
    predictions: Predictions,
    *,
    positive: str,
    group: str,
    target: str = "label",
    source: str = "the predictions",
) -> Cases:
    """Cases whose score is a class's probability.

    Args:
      predictions: with the group among their columns.
      positive: the name of the class.
      group: a column.
      target: a column; `label` is whether an image is of the class.
      source: what holds them, for messages.

    Raises:
      UserError: if there is no such class or column, or as `cases_of_table`.
    """
    table = table_of_predictions(predictions, positive, source)
    return cases_of_table(table, score="score", target=target, group=group)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupFigures:
    """How a group fares."""

    count: int
    positives: int
    """Cases whose target is 1."""
    rate: float
    """E[h], how often 1 is decided."""
    accuracy: float
    """E[h y + (1 − h)(1 − y)]."""
    tpr: float | None
    """E[h | y = 1], the true positive rate; None of no such case."""
    fpr: float | None
    """E[h | y = 0], the false positive rate; None of no such case."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fairness:
    """How the groups fare by a decision."""

    decision: Decision
    groups: dict[str, GroupFigures]
    accuracy: float
    """Of all cases."""
    calibration: Calibration
    """Of h as the probability of the target, by the convention `positive_class`."""

    def gap(self, figure: Literal["rate", "accuracy", "tpr", "fpr"]) -> float | None:
        """Max − min of a figure over the groups; None where a group lacks it.

        Of `rate` it is the gap in demographic parity, of `tpr` and `fpr` those in equalised odds.
        """
        found = [getattr(one, figure) for one in self.groups.values()]
        return None if None in found else max(found) - min(found)

    def as_json(self) -> dict[str, Any]:
        """Figures, gaps, and those of each group."""
        return {
            "decision": self.decision,
            "accuracy": self.accuracy,
            "parity_gap": self.gap("rate"),
            "accuracy_gap": self.gap("accuracy"),
            "tpr_gap": self.gap("tpr"),
            "fpr_gap": self.gap("fpr"),
            "ece": self.calibration.equal_width.error(),
            "calibration": self.calibration.as_json(),
            "groups": {name: dataclasses.asdict(one) for name, one in self.groups.items()},
        }


def hard(cases: Cases) -> np.ndarray:
    """1 where the score is 0.5 or more, and else 0: float64 [N]."""
    return (cases.score >= 0.5).astype(np.float64)


def fairness(cases: Cases, decided: np.ndarray, decision: Decision) -> Fairness:
    """How groups fare.

    Args:
      cases: N.
      decided: float [N] in [0, 1], the probability with which 1 is decided of each.
      decision: what these are.

    Raises:
      UserError: if they are no probabilities.
    """
    h = np.asarray(decided, np.float64)
    calibration = binary_calibration(h, cases.target, convention="positive_class")
    right = np.where(cases.target, h, 1 - h)
    return Fairness(
        decision=decision,
        groups={
            name: _group_figures(h[mine], right[mine], cases.target[mine])
            for number, name in enumerate(cases.groups)
            for mine in [cases.of_group(number)]
        },
        accuracy=float(right.mean()),
        calibration=calibration,
    )


def _group_figures(h: np.ndarray, right: np.ndarray, target: np.ndarray) -> GroupFigures:
    return GroupFigures(
        count=len(h),
        positives=int(target.sum()),
        rate=float(h.mean()),
        accuracy=float(right.mean()),
        tpr=float(h[target].mean()) if target.any() else None,
        fpr=float(h[~target].mean()) if not target.all() else None,
    )
