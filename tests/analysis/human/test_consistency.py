"""Two observers are compared trial by trial, condition by condition."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from distill.analysis.human.consistency import align, pair_figures, resampled
from distill.analysis.human.datasets import CATEGORIES, Dataset
from distill.analysis.human.trials import Trials
from distill.errors import UserError

SET = Dataset(name="colour", images=8, left_out=("z",))
ONE_PAIR = np.array([[0], [1]])


def trials(observer, right, conditions="aaaabbbb", **changed):
    """Trials with the images 0.png, 1.png …, right where `right` has a 1."""
    count = len(right)
    answers = np.array([0 if one == "1" else 5 for one in right], np.int8)
    made = Trials(
        dataset="colour",
        observer=observer,
        sessions=np.ones(count, int),
        numbers=np.arange(1, count + 1),
        seconds=np.full(count, np.nan),
        answers=answers,
        categories=np.zeros(count, np.int8),
        conditions=tuple(conditions),
        images=tuple(f"{number}.png" for number in range(count)),
        source=f"{observer}.csv",
        lines=np.arange(2, count + 2),
    )
    return dataclasses.replace(made, **changed)


def compared(one, other, conditions="aaaabbbb"):
    answers = align(SET, [trials("subject-01", one, conditions), trials("m", other, conditions)])
    figures = pair_figures(answers, ONE_PAIR, np.ones((1, answers.categories.size), np.float32))
    return tuple(float(one[0, 0]) for one in figures)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        # Both always right, both always wrong: nothing is left that chance could explain.
        ("11111111", "11111111", (0, 1, 1)),
        ("00000000", "00000000", (0, 1, 1)),
        # One always right, the other never.
        ("11111111", "00000000", (1, 0, 0)),
        # Opposites at even odds.
        ("11001100", "00110011", (0, 0, -1)),
        # Alike at even odds.
        ("11001100", "11001100", (0, 1, 1)),
        # a: 3/4 and 1/2, alike in 3/4, expected 1/2 → 1/2; b: 1/2 each, alike in 1/2 → 0.
        ("11101100", "11001010", (1 / 32, 5 / 8, 1 / 4)),
    ],
)
def test_figures_are_means_over_conditions(one, other, expected):
    assert compared(one, other) == pytest.approx(expected, abs=1e-15)


def test_error_consistency_is_cohens_kappa_of_being_right():
    generator = np.random.default_rng(0)
    for _ in range(20):
        pair = generator.integers(2, size=(2, 8))
        one, other = ("".join(map(str, row)) for row in pair)
        if len(set(one)) == 1 or len(set(other)) == 1:
            continue
        kappa = compared(one, other, "aaaaaaaa")[2]
        assert kappa == pytest.approx(cohen_kappa_score(*pair), abs=1e-12)


def test_conditions_that_are_left_out_do_not_count():
    assert compared("11110000", "11110011", "aaaazzzz") == (0, 1, 1)


def test_no_answer_is_wrong_even_beside_another_that_is_wrong():
    silent = trials("m", "11110000")
    silent.answers[4:] = -1
    answers = align(SET, [trials("subject-01", "11110000"), silent])
    figures = pair_figures(answers, ONE_PAIR, np.ones((1, 8), np.float32))
    assert [float(one[0, 0]) for one in figures] == [0, 1, 1]


def test_trials_are_matched_by_image_in_whatever_order_and_session():
    person, model = trials("subject-01", "11011000"), trials("m", "10011010")
    expected = align(SET, [person, model])
    order = np.array([7, 2, 0, 5, 1, 6, 4, 3])
    shuffled = dataclasses.replace(
        model,
        answers=model.answers[order],
        conditions=tuple(model.conditions[row] for row in order),
        images=tuple(f"{row:04d}_cl_dnn_a_b_00_{model.images[row]}" for row in order),
    )
    halves = [
        dataclasses.replace(
            shuffled,
            **{
                name: getattr(shuffled, name)[part]
                for name in ("sessions", "numbers", "seconds", "answers", "categories", "lines")
            },
            conditions=shuffled.conditions[part],
            images=shuffled.images[part],
        )
        for part in (slice(0, 3), slice(3, 8))
    ]
    found = align(SET, [person, *halves])
    np.testing.assert_array_equal(found.answers, expected.answers)
    assert found.images == expected.images


def test_what_differs_between_observers_is_named_by_file_and_line():
    person = trials("subject-01", "11110000")
    images = [*person.images]

    def refused(model, message):
        with pytest.raises(UserError, match=message):
            align(SET, [person, model])

    images[3] = "new.png"
    other = trials("m", "11110000", images=tuple(images))
    refused(other, r"^m.csv, line 5: subject-01 has not seen new.png under condition a of colour")
    odd = trials("m", "11110000", "aaaabbbc")
    refused(odd, r"m.csv, line 9: .* condition c of colour; .* one of its conditions: a, b, z$")
    images[3] = images[2]
    twice = trials("m", "11110000", images=tuple(images))
    refused(twice, r"^m.csv, line 5: m sees 2.png under condition a again, after m.csv, line 4")
    wrong = trials("m", "11110000", categories=np.array([0, 0, 3, 0, 0, 0, 0, 0], np.int8))
    refused(wrong, r"^m.csv, line 4: 2.png has another category than for subject-01")
    few = trials("m", "1111000", "aaaabbb")
    refused(few, r"^m.csv: m has 7 of 8 trials that count in colour; .* is 7.png under condition b")
    none = trials("m", "11110000", "zzzzzzzz")
    refused(none, r"^m.csv: no trial is under a condition that counts")


def test_a_first_observer_of_too_few_trials_is_refused():
    with pytest.raises(UserError, match="subject-01 has 7 trials with colour; expected 8"):
        align(SET, [trials("subject-01", "1111000", "aaaabbb")])


def test_a_weight_counts_a_trial_several_times():
    one, other = "11101100", "11001010"
    answers = align(SET, [trials("subject-01", one), trials("m", other)])
    weights = np.array([[0, 3, 1, 0, 1, 0, 2, 1]], np.float32)
    found = pair_figures(answers, ONE_PAIR, weights)
    again = np.repeat(np.arange(8), weights[0].astype(int))
    repeated = dataclasses.replace(
        answers,
        answers=answers.answers[:, again],
        conditions=answers.conditions[again],
        categories=answers.categories[again],
        images=tuple(answers.images[row] for row in again),
    )
    expected = pair_figures(repeated, ONE_PAIR, np.ones((1, 8), np.float32))
    np.testing.assert_allclose(found, expected, atol=1e-15)


def test_images_are_drawn_within_their_condition():
    conditions = np.array([0, 1, 0, 0, 1, 2])
    counts = resampled(conditions, 4000, np.random.default_rng(0))
    for condition, size in enumerate((3, 2, 1)):
        assert (counts[:, conditions == condition].sum(axis=1) == size).all()
    # With replacement: an image is left out as often as (1 − 1/n)^n.
    left_out = (counts == 0).mean(axis=0)
    np.testing.assert_allclose(left_out, np.array([8, 27 / 4, 8, 8, 27 / 4, 0]) / 27, atol=0.03)


def test_categories_are_in_the_order_of_the_alphabet():
    assert list(CATEGORIES) == sorted(CATEGORIES)
    assert len(CATEGORIES) == 16
