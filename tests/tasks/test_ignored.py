"""Settings of matching that no term of its losses looks at."""

import pytest

from distill.tasks.matching.config import LossWeights, MatchingConfig


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        (dict(layers=((1, 2),)), "layers without a term that compares layers"),
        (dict(layers_of={"a": ((1, 2),)}), "layers_of without a term"),
        (dict(standardise="phi_s"), "standardise=phi_s without a term in the teachers' space"),
    ],
)
def test_what_no_term_looks_at_is_said(choices, said):
    (found,) = MatchingConfig(**choices).ignored
    assert found.startswith(said)
    looks = LossWeights(kl=0.0, layers_mse=1.0)
    layers = {} if "standardise" not in choices else {"layers": ((1, 1),)}
    assert MatchingConfig(losses=looks, **choices, **layers).ignored == ()


def test_the_defaults_ignore_nothing():
    assert MatchingConfig().ignored == ()
