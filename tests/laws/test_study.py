"""What follows from the points of a study."""

import numpy as np
import pytest

from distill.laws import study
from distill.laws.law import check_falling
from distill.laws.study import Point, find_trend


def trend(errors):
    """Of 20 models, each with more compute than the one before."""
    points = [
        Point(
            size="s", parameters=1, steps=1, images=1, flops=flops, errors={"error": float(error)}
        )
        for flops, error in zip(np.geomspace(1e6, 1e12, len(errors)), errors, strict=True)
    ]
    return find_trend(points, "error", resamples=40, seed=0)


def test_a_frontier_of_models_that_do_not_learn_is_no_law(monkeypatch):
    """The best so far of noise falls with compute too."""
    # Whatever is fitted to it.
    monkeypatch.setattr(study, "fit_law", lambda *_, **__: object())
    noise = np.random.default_rng(0).permutation(np.linspace(0.4, 0.6, 15))
    errors = [0.70, 0.65, 0.62, 0.61, *noise]
    check_falling(np.arange(1, 20), np.sort(errors)[::-1])
    late = [*np.linspace(0.60, 0.56, 5), *np.linspace(0.70, 0.80, 15)]
    found = trend(late)
    assert found.frontier.sum() == 5 and found.fit is None
    assert "do not fall with compute" in found.problem and "0.6 at the least" in found.problem


@pytest.mark.parametrize("errors", [[0.5] * 20, list(np.linspace(0.1, 0.9, 20))])
def test_errors_that_stay_or_rise_are_no_law(errors):
    """Their frontier is a single model."""
    assert "1 different values of compute are too few" in trend(errors).problem
