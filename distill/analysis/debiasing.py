"""Debiasing after training: decisions as near to a score's as a bound on disparity allows.

Alabdulmohsin and Lucic, "A near-optimal algorithm for debiasing trained machine learning models",
arXiv 2106.12887. With f = 2p − 1 the decision h of each case solves

    minimise γ/2 |h|² − f·h  subject to  |E[h | s = k] − ρ| ≤ ε/2 of every group k,  0 ≤ h ≤ 1,

so that h = clip((f − t_k)/γ, 0, 1). The paper's algorithm descends stochastically. As a group's
mean of h falls with its own t_k alone, t_k is found here by halves, to the last bit and without a
seed.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from distill.analysis.fairness import Cases, Fairness, fairness, hard
from distill.bounds import Gamma, Share, check_fields
from distill.errors import UserError

BIASES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DebiaserConfig:
    """What a decision may be.

    Raises:
      ValueError: for what is out of its range.
    """

    gamma: Gamma = 0.05
    """γ, from 1e-6 on: the span of 2p − 1 over which a decision goes from 0 to 1, by chance in
    between. A small one keeps most of a score's accuracy."""
    bias: Share = 0.0
    """ε, in [0, 1]: how far apart the groups' rates of 1 may be."""
    rate: Share | None = None
    """ρ, in [0, 1]: the rate of 1 that they are around; none is the mean score fitted to."""

    def __post_init__(self):
        check_fields(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Debiaser:
    """A threshold for each group, t_k, and how steep decisions are around it."""

    groups: tuple[str, ...]
    thresholds: tuple[float, ...]
    """Of 2p − 1."""
    gamma: float
    bias: float
    rate: float
    """ρ, that of the cases fitted to if the config named none."""

    def decide(self, cases: Cases) -> np.ndarray:
        """The probability with which 1 is decided of each case, float64 [N].

        Raises:
          UserError: if the cases have other groups.
        """
        if cases.groups != self.groups:
            raise UserError(
                f"{cases.source}: the groups are {', '.join(cases.groups)}; the debiaser was "
                f"fitted to {', '.join(self.groups)}"
            )
        thresholds = np.array(self.thresholds)[cases.group]
        return _decide(2 * cases.score - 1, thresholds, self.gamma)

    def as_json(self) -> dict[str, Any]:
        """The fields, thresholds by group."""
        fields = dataclasses.asdict(self)
        del fields["groups"]
        return fields | {"thresholds": dict(zip(self.groups, self.thresholds, strict=True))}


def fit_debiaser(cases: Cases, config: DebiaserConfig) -> Debiaser:
    """The debiaser that is best on cases that are not scored afterwards.

    A group's rate of 1 on these is what it is at t = 0, or the nearer end of ρ ± ε/2 where that is
    outside, so that no two differ by more than the bias allowed.
    """
    # Of p, not of 2p − 1: the two have the same mean where all scores are high.
    rate = float(cases.score.mean()) if config.rate is None else config.rate
    low, high = max(rate - config.bias / 2, 0.0), min(rate + config.bias / 2, 1.0)
    thresholds = tuple(
        _threshold(2 * cases.score[cases.of_group(number)] - 1, config.gamma, low, high)
        for number in range(len(cases.groups))
    )
    return Debiaser(
        groups=cases.groups,
        thresholds=thresholds,
        gamma=config.gamma,
        bias=config.bias,
        rate=rate,
    )


def _decide(f: np.ndarray, threshold: np.ndarray | float, gamma: float) -> np.ndarray:
    return np.clip((f - threshold) / gamma, 0, 1)


def _threshold(f: np.ndarray, gamma: float, low: float, high: float) -> float:
    """The t nearest to 0 at which a group's mean decision is from `low` to `high`.

    Args:
      f: [n], in [−1, 1].
      gamma: γ.
      low: the least mean, in [0, 1].
      high: the greatest.
    """

    def mean(t: float) -> float:
        return float(_decide(f, t, gamma).mean())

    wanted = min(max(mean(0.0), low), high)
    if mean(0.0) == wanted:
        return 0.0
    # Everything is decided 1 at the one end, and 0 at the other.
    below, above = min(float(f.min()) - gamma, 0.0), max(float(f.max()), 0.0)
    while below < (middle := (below + above) / 2) < above:
        below, above = (middle, above) if mean(middle) >= wanted else (below, middle)
    return min((below, above), key=lambda t: abs(mean(t) - wanted))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TradeOff:
    """What a bound on disparity costs."""

    debiaser: Debiaser
    fitted: Fairness
    """Of the held-out cases."""
    applied: Fairness
    """Of the cases that are scored."""

    def as_json(self) -> dict[str, Any]:
        """The debiaser, its figures, and the gap it has on the cases it was fitted to."""
        return {
            "debiaser": self.debiaser.as_json(),
            "fitted_parity_gap": self.fitted.gap("rate"),
            **self.applied.as_json(),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """How groups fare by a score before debiasing and after it."""

    count: int
    held_out: int | None
    """Cases that debiasers were fitted to; None without any."""
    before: tuple[Fairness, ...]
    """Of the hard decision and of the score."""
    curve: tuple[TradeOff, ...]
    """By the bias allowed, the least first; empty without held-out cases."""
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """As fields, what was before by decision."""
        return {
            "count": self.count,
            "held_out": self.held_out,
            "before": {one.decision: one.as_json() for one in self.before},
            "debiased": [one.as_json() for one in self.curve],
            "warnings": list(self.warnings),
        }


def compare(
    cases: Cases,
    held_out: Cases | None = None,
    *,
    gamma: float = DebiaserConfig.gamma,
    biases: Sequence[float] = BIASES,
    rate: float | None = None,
) -> Comparison:
    """How groups fare before debiasing and after it.

    Args:
      cases: to score.
      held_out: others, to fit debiasers to; None fits none.
      gamma: γ of all.
      biases: ε of each.
      rate: ρ of all; None takes the mean of the held-out scores.

    Raises:
      UserError: if the two have other groups.
      ValueError: as `DebiaserConfig`.
    """
    curve: list[TradeOff] = []
    warnings = cases.warnings("" if held_out is None else ", measured on")
    if held_out is not None:
        warnings += held_out.warnings(", fitted to")
        for bias in sorted(set(biases)):
            config = DebiaserConfig(gamma=gamma, bias=bias, rate=rate)
            curve.append(trade_off(cases, held_out, config))
    return Comparison(
        count=len(cases),
        held_out=None if held_out is None else len(held_out),
        before=(fairness(cases, hard(cases), "hard"), fairness(cases, cases.score, "score")),
        curve=tuple(curve),
        warnings=tuple(warnings),
    )


def trade_off(cases: Cases, held_out: Cases, config: DebiaserConfig) -> TradeOff:
    """What one debiaser, fitted to held-out cases, does to these.

    Raises:
      UserError: if the two have other groups.
    """
    debiaser = fit_debiaser(held_out, config)
    return TradeOff(
        debiaser=debiaser,
        fitted=fairness(held_out, debiaser.decide(held_out), "debiased"),
        applied=fairness(cases, debiaser.decide(cases), "debiased"),
    )
