"""How groups fare, against means written out."""

import dataclasses

import numpy as np
import pytest

from distill.analysis.calibration import binary_calibration
from distill.analysis.fairness import Cases, cases_of_predictions, fairness, hard
from distill.analysis.predictions import Predictions
from distill.errors import UserError

SCORE = [0.9, 0.5, 0.2, 0.6, 0.1, 0.4]
TARGET = [1, 0, 0, 1, 1, 0]
GROUP = ["a", "a", "a", "b", "b", "b"]


def cases(score=SCORE, target=TARGET, group=GROUP, **options) -> Cases:
    return Cases.of(score, target, group, **options)


def many(count=3000, groups=4, seed=0) -> Cases:
    rng = np.random.default_rng(seed)
    group = rng.integers(groups, size=count)
    score = rng.beta(1 + group, 2)
    return cases(score, rng.random(count) < score, group)


def test_hard_decisions_are_counted():
    found = fairness(cases(), hard(cases()), "hard")
    a, b = found.groups["a"], found.groups["b"]
    assert (a.count, a.positives, a.rate, a.accuracy) == (3, 1, 2 / 3, 2 / 3)
    assert (a.tpr, a.fpr) == (1, 1 / 2)
    assert (b.count, b.positives, b.rate, b.accuracy) == (3, 2, 1 / 3, 2 / 3)
    assert (b.tpr, b.fpr) == (1 / 2, 0)
    gaps = [found.gap(figure) for figure in ("rate", "accuracy", "tpr", "fpr")]
    assert gaps == pytest.approx([1 / 3, 0, 1 / 2, 1 / 2]) and found.accuracy == 2 / 3
    told = found.as_json()
    assert told["decision"] == "hard" and told["parity_gap"] == gaps[0]
    assert told["groups"]["b"] == dataclasses.asdict(b)


def test_decisions_by_chance_are_their_expectation():
    """The mean over many draws of hard decisions, to four standard errors of it."""
    some, rng, draws = many(count=300), np.random.default_rng(1), 2000
    found = fairness(some, some.score, "score")
    drawn = rng.random((draws, 300)) < some.score
    right = drawn == some.target
    for number, name in enumerate(some.groups):
        mine = some.group == number
        for measured, expected in (
            (drawn[:, mine].mean(), found.groups[name].rate),
            (right[:, mine].mean(), found.groups[name].accuracy),
            (drawn[:, mine & some.target].mean(), found.groups[name].tpr),
            (drawn[:, mine & ~some.target].mean(), found.groups[name].fpr),
        ):
            assert measured == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(draws * 5))
    assert right.mean() == pytest.approx(found.accuracy, abs=0.005)


def test_the_gap_is_on_the_scale_of_probabilities():
    """Of 2p − 1 it would be twice as large, and could not be compared with what is decided."""
    some = many()
    gap = fairness(some, some.score, "score").gap("rate")
    means = [some.score[some.group == k].mean() for k in range(4)]
    assert gap == pytest.approx(max(means) - min(means))
    signed = [(2 * some.score - 1)[some.group == k].mean() for k in range(4)]
    assert max(signed) - min(signed) == pytest.approx(2 * gap)


def test_calibration_of_a_decision_is_of_the_positive_class():
    some = many()
    found = fairness(some, some.score, "score").calibration
    expected = binary_calibration(some.score, some.target, convention="positive_class")
    assert found.as_json() == expected.as_json()


def test_a_group_of_one_target_has_no_rate_of_the_other():
    found = fairness(cases(target=[1, 1, 1, 0, 1, 0]), np.full(6, 0.5), "score")
    assert found.groups["a"].fpr is None and found.groups["a"].tpr == 0.5
    assert found.gap("fpr") is None and found.gap("tpr") == 0
    assert found.as_json()["fpr_gap"] is None


def test_groups_with_few_cases_are_warned_of():
    group = ["x"] * 100 + ["y"] * 99
    (warning,) = cases(np.full(199, 0.5), np.zeros(199), group, source="t.csv").warnings()
    assert "t.csv: the group y has 99 cases" in warning


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(score=[0.9, np.nan, 0.2, 0.6, 0.1, 0.4]), "score 1 is nan; expected numbers from 0"),
        (dict(score=[0.9, 1.5, 0.2, 0.6, 0.1, 0.4]), "score 1 is 1.5"),
        (dict(target=[1, 0, 2, 1, 1, 0]), "targets are .*2.*; expected 0 and 1"),
        (dict(target=[1, 0]), "shapes"),
        (dict(group=["a"] * 6), "all cases are of the group a; expected two groups or more"),
        (dict(score=[], target=[], group=[]), "all cases are of the group none"),
        (dict(groups=("a", "b", "c")), "the group c has no cases"),
        (dict(groups=("a", "c")), "the group b is none of a, c"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, message):
    with pytest.raises(UserError, match=message) as caught:
        cases(**{"source": "t.csv", **change})
    assert "t.csv" in str(caught.value)


def test_predictions_have_a_score_for_a_class_and_a_group_by_name():
    predictions = Predictions(
        scores=np.log([[0.3, 0.7], [0.8, 0.2], [0.5, 0.5]]),
        class_names=("no", "yes"),
        labels=np.array([1, 1, 0]),
        names=np.array(["a.jpg", "b.jpg", "c.jpg"]),
        columns={"Male": np.array([1, -1, 1]), "Smiling": np.array(["0", "1", "1"])},
    )
    found = cases_of_predictions(predictions, positive="yes", group="Male")
    np.testing.assert_allclose(found.score, [0.7, 0.2, 0.5])
    assert found.target.tolist() == [True, True, False]
    assert found.groups == ("Male=-1", "Male=1") and found.group.tolist() == [1, 0, 1]
    other = cases_of_predictions(predictions, positive="yes", group="Male", target="Smiling")
    assert other.target.tolist() == [False, True, True]
    with pytest.raises(UserError, match="no column 'Mal'; did you mean 'Male'"):
        cases_of_predictions(predictions, positive="yes", group="Mal")
