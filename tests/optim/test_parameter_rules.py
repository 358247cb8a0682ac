"""(regex, value) rules over parameter names."""

import jax
import numpy as np
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
    overlapping = match_rules([("head", "head"), ("kernel", "body")], PARAMS, "none")
    assert overlapping["head"]["kernel"] == "head"


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


@pytest.mark.parametrize("setting", ["weight_decay", "learning_rate_multipliers", "freeze"])
def test_a_rule_that_earlier_ones_shadow_is_refused_with_their_names(setting):
    general, special = (True, False) if setting == "freeze" else (1e-3, 0.0)
    rules = ((".", general), ("bias", special))
    message = rf"{setting}: 'bias' decides nothing: all its parameters go to '\.' before it; put"
    with pytest.raises(ValueError, match=message):
        make_optimizer(OptimizerConfig(**{setting: rules}), lambda step: 1.0, PARAMS)


def test_several_rules_can_shadow_one_together():
    rules = [("encoder", 1), ("norm|head", 2), ("kernel", 3)]
    with pytest.raises(ValueError, match=r"'kernel' decides nothing: .* 'encoder' and 'norm|head'"):
        match_rules(rules, PARAMS, 0)
    # Of the rule that is found twice, the second is shadowed by the first.
    with pytest.raises(ValueError, match=r"'kernel' decides nothing: .* 'kernel' before it"):
        match_rules([("kernel", 1), ("kernel", 1)], PARAMS, 0)


STACKED = {
    "encoder": {
        "blocks": {
            "mlp": {"kernel": np.zeros((12, 4, 6)), "bias": np.zeros((12, 6))},
            "norm": {"scale": np.zeros((12, 4))},
        },
        "norm": {"scale": np.zeros(4)},
    },
    "head": {"kernel": np.zeros((4, 3))},
}
AXES = {
    "encoder": {
        "blocks": {
            "mlp": {"kernel": ("layers", "embed", "mlp"), "bias": ("layers", "mlp")},
            "norm": {"scale": ("layers", "embed")},
        },
        "norm": {"scale": ("embed",)},
    },
    "head": {"kernel": ("embed", "classes")},
}


def by_block(rules, default=0):
    """Values of the kernel's blocks, the scale's, and of the head's kernel."""
    found = match_rules(rules, STACKED, default, AXES)
    blocks = found["encoder"]["blocks"]
    for value, rank in ((blocks["mlp"]["kernel"], 3), (blocks["norm"]["scale"], 2)):
        assert np.shape(value) in ((), (12, 1, 1)[:rank])
    return (
        np.broadcast_to(np.ravel(blocks["mlp"]["kernel"]), 12).tolist(),
        np.broadcast_to(np.ravel(blocks["norm"]["scale"]), 12).tolist(),
        found["head"]["kernel"],
    )


ONLY_1 = [0, 1, *[0] * 10]
ALL, NONE = [1] * 12, [0] * 12


@pytest.mark.parametrize(
    ("pattern", "kernel", "scale"),
    [
        ("encoder/blocks/1/", ONLY_1, ONLY_1),
        ("blocks/1/mlp", ONLY_1, NONE),
        ("blocks/1/.*kernel$", ONLY_1, NONE),
        ("^encoder/blocks/(0|1|11)/", [1, 1, *[0] * 9, 1], [1, 1, *[0] * 9, 1]),
        ("blocks/1", [0, 1, *[0] * 8, 1, 1], [0, 1, *[0] * 8, 1, 1]),
        (r"blocks/\d/", [*[1] * 10, 0, 0], [*[1] * 10, 0, 0]),
        (r"blocks/\d+/norm", NONE, ALL),
        # All but one.
        ("blocks/(?!1/)", [1, 0, *[1] * 10], [1, 0, *[1] * 10]),
        # A whole stack, and one block of the others.
        ("blocks/mlp|blocks/1/", ALL, ONLY_1),
        # Without a number, names of blocks count for nothing.
        ("encoder/blocks/mlp", ALL, NONE),
        ("^encoder/blocks/[^/]+/scale$", NONE, ALL),
        ("^(?!encoder/blocks/mlp)", NONE, ALL),
    ],
)
def test_a_rule_with_a_number_is_of_single_blocks(pattern, kernel, scale):
    assert by_block([(pattern, 1)])[:2] == (kernel, scale)


def test_of_a_block_the_first_match_wins():
    kernel, scale, head = by_block([("blocks/1/", 3), ("blocks/(1|2)/norm", 2), ("kernel", 1)])
    assert kernel == [1, 3, *[1] * 10]
    assert scale == [0, 3, 2, *[0] * 9]
    assert head == 1


def test_rules_shadow_each_other_block_by_block():
    special_first = [("blocks/1/", 2), ("encoder/blocks", 1)]
    assert by_block(special_first)[0] == [1, 2, *[1] * 10]
    with pytest.raises(ValueError, match=r"'blocks/1/' decides nothing: .* 'encoder/blocks'"):
        match_rules(special_first[::-1], STACKED, 0, AXES)


def test_blocks_of_one_value_are_one_value():
    found = match_rules([(r"blocks/\d+/mlp", True)], STACKED, False, AXES)
    assert found["encoder"]["blocks"]["mlp"] == {"kernel": True, "bias": True}


def test_a_block_that_is_not_there_is_refused_with_the_numbers_that_are():
    with pytest.raises(ValueError, match=r"matches no parameter(.|\n)*blocks/0/… to blocks/11/…"):
        match_rules([("blocks/12/", 1)], STACKED, 0, AXES)
    with pytest.raises(ValueError, match="matches no parameter"):
        match_rules([("blocks/1/", 1)], STACKED, 0)
