"""(regex, value) rules over parameter names."""

import jax
import pytest

from distill.optim import OptimizerConfig, make_optimizer, match_rules, parameter_names

PARAMS = {
    "encoder": {"mlp": {"kernel": 1.0, "bias": 2.0}, "norm": {"scale": 3.0}},
    "head": {"kernel": 4.0},
}


def test_names_are_paths():
    assert parameter_names(PARAMS) == {
        "encoder": {
            "mlp": {"kernel": "encoder/mlp/kernel", "bias": "encoder/mlp/bias"},
            "norm": {"scale": "encoder/norm/scale"},
        },
        "head": {"kernel": "head/kernel"},
    }


def test_first_match_wins_and_the_rest_gets_the_default():
    matched = match_rules([("head/kernel", "head"), ("kernel", "body")], PARAMS, "none")
    assert matched == {
        "encoder": {"mlp": {"kernel": "body", "bias": "none"}, "norm": {"scale": "none"}},
        "head": {"kernel": "head"},
    }
    swapped = match_rules([("kernel", "body"), ("head/kernel", "head")], PARAMS, "none")
    assert swapped["head"]["kernel"] == "body"


def test_patterns_are_searched_as_regular_expressions():
    matched = match_rules([(r"^head", 1), (r"(bias|scale)$", 2)], PARAMS, 0)
    assert jax.tree.leaves(matched) == [2, 0, 2, 1]


def test_no_rules_leave_the_default():
    assert set(jax.tree.leaves(match_rules([], PARAMS, 0.5))) == {0.5}


def test_rule_that_matches_nothing_is_refused_with_the_names():
    with pytest.raises(ValueError, match="kernle") as error:
        match_rules([("kernel", 1), ("kernle", 2)], PARAMS, 0)
    assert "encoder/mlp/bias" in str(error.value)


def test_bad_regular_expression_is_refused():
    with pytest.raises(ValueError, match=r"\(kernel"):
        match_rules([("(kernel", 1)], PARAMS, 0)


@pytest.mark.parametrize("pattern", ["kernle", "(kernel"])
def test_optimizer_refuses_rules_that_cannot_work(pattern):
    config = OptimizerConfig(weight_decay=((pattern, 0.1),))
    with pytest.raises(ValueError, match="kern"):
        make_optimizer(config, lambda step: 1.0, PARAMS)
