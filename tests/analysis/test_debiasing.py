"""The debiaser, against the conditions of optimality and a generic solver."""

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize

from distill.analysis.debiasing import Debiaser, DebiaserConfig, compare, fit_debiaser
from distill.analysis.fairness import Cases, fairness
from distill.errors import UserError

PROBLEMS = list(itertools.product((2, 3, 4, 5), (0.05, 0.5, 1.0), (0.0, 0.05, 0.2)))


def drawn(count: int, groups: int, seed: int = 0) -> Cases:
    """Groups whose scores differ; each has a case."""
    rng = np.random.default_rng(seed)
    group = np.r_[np.arange(groups), rng.integers(groups, size=count - groups)]
    score = rng.beta(1 + 0.7 * group, 2.0)
    return Cases.of(score, rng.random(count) < score, group)


def rates(cases: Cases, decided: np.ndarray) -> np.ndarray:
    return np.array([decided[cases.group == k].mean() for k in range(len(cases.groups))])


@pytest.mark.parametrize(("groups", "gamma", "bias"), PROBLEMS)
def test_decisions_are_optimal(groups, gamma, bias):
    """KKT: stationarity in each h, bounds, and a multiplier only where a bound is met."""
    cases = drawn(2000, groups, seed=groups)
    debiaser = fit_debiaser(cases, DebiaserConfig(gamma=gamma, bias=bias))
    h, f = debiaser.decide(cases), 2 * cases.score - 1
    t = np.array(debiaser.thresholds)
    slope = gamma * h - f + t[cases.group]
    assert ((h >= 0) & (h <= 1)).all()
    assert np.abs(slope[(h > 0) & (h < 1)]).max(initial=0) < 1e-9
    assert (slope[h == 0] > -1e-9).all() and (slope[h == 1] < 1e-9).all()
    distance = rates(cases, h) - cases.score.mean()
    assert (np.abs(distance) <= bias / 2 + 1e-9).all()
    # λ − μ is t; each is positive only where its own bound is met.
    assert np.abs(distance[t > 0] - bias / 2).max(initial=0) < 1e-9
    assert np.abs(distance[t < 0] + bias / 2).max(initial=0) < 1e-9


@pytest.mark.parametrize(("groups", "gamma", "bias"), PROBLEMS)
def test_a_generic_convex_solver_finds_the_same_decisions(groups, gamma, bias):
    cases = drawn(30, groups, seed=10 + groups)
    h = fit_debiaser(cases, DebiaserConfig(gamma=gamma, bias=bias)).decide(cases)
    f, rate = 2 * cases.score - 1, cases.score.mean()
    means = np.stack([(cases.group == k) / (cases.group == k).sum() for k in range(groups)])
    constraints = [{"type": "eq", "fun": lambda x: means @ x - rate, "jac": lambda x: means}]
    if bias:
        constraints = [
            {
                "type": "ineq",
                "fun": lambda x, sign=sign: bias / 2 - sign * (means @ x - rate),
                "jac": lambda x, sign=sign: -sign * means,
            }
            for sign in (1, -1)
        ]
    found = minimize(
        lambda x: gamma / 2 * x @ x - f @ x,
        np.full(len(f), rate),
        jac=lambda x: gamma * x - f,
        bounds=[(0, 1)] * len(f),
        constraints=constraints,
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    objective = gamma / 2 * h @ h - f @ h
    assert objective == pytest.approx(found.fun, abs=1e-8)
    np.testing.assert_allclose(h, found.x, atol=1e-5)


@pytest.mark.parametrize(("groups", "gamma", "bias"), PROBLEMS)
def test_rates_on_the_fitted_cases_are_those_at_zero_moved_into_the_bound(groups, gamma, bias):
    cases = drawn(500, groups)
    h = fit_debiaser(cases, DebiaserConfig(gamma=gamma, bias=bias)).decide(cases)
    free = rates(cases, np.clip((2 * cases.score - 1) / gamma, 0, 1))
    rate = cases.score.mean()
    expected = np.clip(free, rate - bias / 2, rate + bias / 2)
    np.testing.assert_allclose(rates(cases, h), expected, atol=1e-12)
    assert np.ptp(rates(cases, h)) <= min(bias, np.ptp(free)) + 1e-12


def test_the_gap_on_the_fitted_cases_is_the_bias_allowed_or_what_there_is_without():
    """Two groups around the rate, as a debiaser meets them."""
    cases = Cases.of([0.2, 0.4, 0.6, 0.8], [0, 0, 1, 1], [0, 0, 1, 1])
    for bias, expected in ((0.0, 0.0), (0.3, 0.3), (0.7, 0.7), (1.0, 1.0)):
        h = fit_debiaser(cases, DebiaserConfig(gamma=0.05, bias=bias)).decide(cases)
        assert np.ptp(rates(cases, h)) == pytest.approx(expected, abs=1e-12)
    close = Cases.of([0.5, 0.52, 0.5, 0.54], [0, 0, 1, 1], [0, 0, 1, 1])
    debiaser = fit_debiaser(close, DebiaserConfig(gamma=1.0, bias=0.99, rate=0.5))
    assert debiaser.thresholds == (0.0, 0.0)
    assert np.ptp(rates(close, debiaser.decide(close))) == pytest.approx(0.02)


def test_the_rate_is_the_mean_score_also_where_all_scores_are_high():
    """The mean of 2p − 1, in its place, would be a rate that nobody asked for."""
    rng = np.random.default_rng(0)
    score = 0.5 + 0.4 * rng.random(400)
    cases = Cases.of(score, rng.random(400) < score, np.arange(400) % 2)
    debiaser = fit_debiaser(cases, DebiaserConfig())
    assert debiaser.rate == score.mean()
    assert abs(debiaser.rate - (2 * score - 1).mean()) > 0.2
    np.testing.assert_allclose(rates(cases, debiaser.decide(cases)), score.mean(), atol=1e-12)


def test_a_debiaser_that_is_fitted_again_takes_the_rate_of_its_own_cases():
    config = DebiaserConfig()
    first, second = (fit_debiaser(drawn(300, 2, seed), config) for seed in (0, 1))
    assert first.rate != second.rate == drawn(300, 2, 1).score.mean()


@pytest.mark.parametrize("rate", [0.0, 0.25, 1.0])
def test_a_rate_that_is_asked_for_is_that_of_every_group(rate):
    cases = drawn(300, 3)
    h = fit_debiaser(cases, DebiaserConfig(rate=rate)).decide(cases)
    np.testing.assert_allclose(rates(cases, h), rate, atol=1e-12)


def test_cases_of_one_score_are_decided_alike():
    cases = Cases.of([0.9] * 4 + [0.1] * 4, [1, 0] * 4, [0] * 4 + [1] * 4)
    h = fit_debiaser(cases, DebiaserConfig(gamma=1e-6)).decide(cases)
    np.testing.assert_allclose(h, 0.5, atol=1e-9)


def test_a_new_case_is_decided_by_its_groups_threshold():
    debiaser = Debiaser(groups=("a", "b"), thresholds=(0.0, 0.5), gamma=0.5, bias=0, rate=0.5)
    cases = Cases.of([0.5, 0.625, 0.9, 0.8], [0, 1, 1, 1], ["a", "a", "a", "b"])
    np.testing.assert_allclose(debiaser.decide(cases), [0, 0.5, 1, 0.2])
    assert debiaser.as_json()["thresholds"] == {"a": 0.0, "b": 0.5}
    with pytest.raises(UserError, match="the groups are a, c; the debiaser was fitted to a, b"):
        debiaser.decide(Cases.of([0.5, 0.5], [0, 1], ["a", "c"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(gamma=0.0), "gamma must be a number from 1e-06 to"),
        (dict(gamma=float("nan")), "gamma must be"),
        (dict(gamma=float("inf")), "gamma must be"),
        (dict(bias=-0.1), "bias must be a number from 0 to 1"),
        (dict(bias=float("nan")), "bias must be a number from 0 to 1"),
        (dict(rate=1.1), "rate must be a number from 0 to 1"),
    ],
)
def test_what_a_debiaser_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        DebiaserConfig(**change)


def test_less_bias_costs_accuracy_on_the_fitted_cases_and_is_told_by_bias():
    held_out, cases = drawn(4000, 3, seed=1), drawn(4000, 3, seed=2)
    found = compare(cases, held_out, biases=(0.2, 0.0, 0.1, 0.1))
    assert [one.debiaser.bias for one in found.curve] == [0.0, 0.1, 0.2]
    accuracies = [one.fitted.accuracy for one in found.curve]
    assert accuracies == sorted(accuracies) and accuracies[0] < accuracies[-1] - 0.01
    for one in found.curve:
        assert one.fitted.gap("rate") == pytest.approx(one.debiaser.bias, abs=1e-9)
        assert one.applied.gap("rate") == pytest.approx(one.debiaser.bias, abs=0.06)
        again = fairness(cases, one.debiaser.decide(cases), "debiased")
        assert one.as_json()["parity_gap"] == again.gap("rate")
    told = found.as_json()
    assert (told["count"], told["held_out"]) == (4000, 4000)
    assert list(told["before"]) == ["hard", "score"] and told["warnings"] == []


def test_a_debiaser_sees_nothing_of_the_cases_it_is_applied_to():
    held_out = drawn(500, 2, seed=1)
    one, other = (compare(drawn(500, 2, seed), held_out) for seed in (2, 3))
    assert [a.debiaser for a in one.curve] == [b.debiaser for b in other.curve]


def test_a_remark_says_which_cases_it_is_of():
    found = compare(drawn(80, 2), drawn(90, 2, seed=1))
    assert [one.count(", measured on: the group") for one in found.warnings] == [1, 1, 0, 0]
    assert [one.count(", fitted to: the group") for one in found.warnings] == [0, 0, 1, 1]


def test_without_held_out_cases_nothing_is_debiased():
    found = compare(drawn(80, 2))
    assert found.curve == () and found.held_out is None
    assert found.as_json()["debiased"] == [] and len(found.warnings) == 2
