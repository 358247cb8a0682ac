"""The ridge probe by moments beside least squares on all tokens."""

import functools

import numpy as np
import pytest

from distill.analysis import dense_probe
from distill.analysis.dense_probe import Moments, fit_dense_probe, fit_ridges
from distill.analysis.linear import row_blocks
from distill.errors import RunFailed, UserError

WIDTH, CLASSES = 9, 4


def drawn(count=300, seed=0):
    """Tokens far from 0 and of unlike scales, one feature constant, one the sum of two; shares."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, WIDTH))
    classes = (x[:, :CLASSES] + 0.7 * rng.standard_normal((count, CLASSES))).argmax(axis=1)
    share = rng.uniform(0.5, 1, (count, 1))
    y = share * np.eye(CLASSES)[classes] + (1 - share) / CLASSES
    x[:, 7], x[:, 8] = 2, x[:, 0] + x[:, 1]
    return x * np.logspace(-2, 2, WIDTH) + 30, y


def by_least_squares(x, y, l2):
    """Kernel and bias on standardised tokens: rows √(N·l2)·I are the penalty."""
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-5)
    count, width = x.shape
    design = np.block(
        [[x, np.ones((count, 1))], [np.sqrt(count * l2) * np.eye(width), np.zeros((width, 1))]]
    )
    target = np.concatenate([y, np.zeros((width, y.shape[1]))])
    found = np.linalg.lstsq(design, target, rcond=None)[0]
    return x @ found[:-1] + found[-1]


@pytest.mark.parametrize("l2", [10, 0.1, 1e-4])
def test_the_fit_is_that_of_least_squares_on_all_tokens(l2):
    x, y = drawn()
    # As another library has it, too, but for its penalty, which is beside the sum.
    (found,) = fit_ridges(Moments.of(x, y), [l2])
    np.testing.assert_allclose(found.scores(x), by_least_squares(x, y, l2), rtol=0, atol=1e-8)
    ridge = pytest.importorskip("sklearn.linear_model").Ridge(alpha=l2 * len(x))
    standard = found.standardisation(x)
    expected = ridge.fit(standard, y).predict(standard)
    np.testing.assert_allclose(found.scores(x), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("block", [1, 64, 4096])
def test_moments_are_those_of_all_tokens_however_they_come(block, monkeypatch):
    monkeypatch.setattr(dense_probe, "row_blocks", functools.partial(row_blocks, size=block))
    x, y = drawn()
    found = (
        Moments.of(x[200:], y[200:])
        + Moments.of(x[:150], y[:150])
        + Moments.of(x[150:200], y[150:200])
    )
    assert found.count == 300
    covariance = np.cov(x, y, rowvar=False, bias=True) * 300
    np.testing.assert_allclose(found.token, x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.share, y.mean(axis=0), rtol=1e-12)
    scale = np.sqrt(np.outer(*[np.diagonal(covariance) + 1] * 2))
    for part, expected, unit in (
        (found.token_token, covariance[:WIDTH, :WIDTH], scale[:WIDTH, :WIDTH]),
        (found.token_share, covariance[:WIDTH, WIDTH:], scale[:WIDTH, WIDTH:]),
        (found.share_share, np.trace(covariance[WIDTH:, WIDTH:]), 1),
    ):
        np.testing.assert_allclose(part / unit, expected / unit, rtol=0, atol=1e-10)


def test_tokens_of_half_precision_far_from_0_lose_nothing_more():
    x, y = drawn()
    # Their squares are beyond float16, and take most of what float32 holds.
    x = (x * 3 + 900).astype(np.float16)
    (found,) = fit_ridges(Moments.of(x, y), [0.1])
    expected = by_least_squares(x.astype(np.float64), y, 0.1)
    np.testing.assert_allclose(found.scores(x), expected, rtol=0, atol=1e-8)


def test_patches_without_a_label_do_not_count():
    x, y = drawn()
    unknown = y.copy()
    unknown[::3] = np.nan
    known = ~np.isnan(unknown[:, 0])
    found, expected = Moments.of(x, unknown), Moments.of(x[known], y[known])
    assert found.count == expected.count == 200
    np.testing.assert_allclose(found.token_share, expected.token_share, rtol=1e-12)
    none = Moments.of(x[::3], unknown[::3])
    assert none.count == 0 and (none + Moments.none(WIDTH, CLASSES)).count == 0
    np.testing.assert_array_equal((none + expected).token_token, expected.token_token)


def test_the_error_is_the_mean_over_tokens():
    x, y = drawn()
    (classifier,) = fit_ridges(Moments.of(*drawn(50, seed=1)), [0.3])
    expected = np.mean(np.sum((classifier.scores(x) - y) ** 2, axis=1))
    assert Moments.of(x, y).error(classifier) == pytest.approx(expected, rel=1e-9)


def test_the_penalty_is_best_on_what_is_held_out_and_the_fit_is_to_all():
    (x, y), (held_x, held_y) = drawn(40), drawn(500, seed=1)
    # Features that are noise, of which a weak penalty makes too much.
    x, held_x = (
        np.concatenate([part, np.random.default_rng(n).standard_normal((len(part), 30))], axis=1)
        for n, part in enumerate((x, held_x))
    )
    penalties = (100, 1, 0.1, 1e-4)
    probe = fit_dense_probe(Moments.of(x, y), Moments.of(held_x, held_y), penalties)
    errors = {}
    for l2 in penalties:
        (one,) = fit_ridges(Moments.of(x, y), [l2])
        errors[l2] = np.mean(np.sum((one.scores(held_x) - held_y) ** 2, axis=1))
    assert probe.errors == pytest.approx(errors, rel=1e-9)
    assert probe.l2 == min(errors, key=errors.get) and probe.l2 in penalties[1:3]
    every = np.concatenate([x, held_x]), np.concatenate([y, held_y])
    expected = by_least_squares(*every, probe.l2)
    np.testing.assert_allclose(probe.classifier.scores(every[0]), expected, rtol=0, atol=1e-8)


def test_a_token_that_is_not_finite_is_named():
    x, y = drawn()
    x[123, 4] = np.inf
    with pytest.raises(RunFailed, match="the features of token 123 of 300 are not finite"):
        Moments.of(x, y)


def test_there_must_be_tokens_to_fit_to_and_some_held_out():
    some, none = Moments.of(*drawn()), Moments.none(WIDTH, CLASSES)
    with pytest.raises(UserError, match="no token to fit to"):
        fit_dense_probe(none, some)
    with pytest.raises(UserError, match="no token held out"):
        fit_dense_probe(some, none)
