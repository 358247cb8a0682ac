"""Learning-rate multipliers, freezing and SGD."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill.nn import Network
from distill.optim import OptimizerConfig, make_optimizer, state_axes, trained_params
from distill.train.state import abstract_state
from students import vit

RATE = 0.1
HALF = lambda step: jnp.float32(0.5)  # noqa: E731


def tree(seed):
    rng = np.random.default_rng(seed)
    return {
        "body": {
            "kernel": jnp.asarray(rng.standard_normal((32, 40)), jnp.float32),
            "bias": jnp.asarray(rng.standard_normal(40), jnp.float32),
        },
        "head": {"kernel": jnp.asarray(rng.standard_normal((40, 32)), jnp.float32)},
    }


def updates_of(config, steps=3):
    params, every = tree(0), []
    optimizer = make_optimizer(config, HALF, params)
    state = optimizer.init(params)
    for step in range(steps):
        updates, state = optimizer.update(tree(step + 1), state, params)
        every.append(updates)
    return every


def test_sgd_is_momentum_on_clipped_gradients():
    config = OptimizerConfig(name="sgd", learning_rate=RATE, b1=0.9, clip_norm=1.0)
    velocity = jax.tree.map(lambda p: np.zeros(p.shape), tree(0))
    for step, updates in enumerate(updates_of(config)):
        gradients = jax.tree.map(lambda g: np.asarray(g, np.float64), tree(step + 1))
        norm = np.sqrt(sum(np.sum(g**2) for g in jax.tree.leaves(gradients)))
        velocity = jax.tree.map(lambda v, g, n=norm: 0.9 * v + g / n, velocity, gradients)
        expected = jax.tree.map(lambda v: -0.5 * RATE * v, velocity)
        jax.tree.map(
            lambda u, e: np.testing.assert_allclose(u, e, rtol=1e-5, atol=1e-9), updates, expected
        )


@pytest.mark.parametrize("name", ["adafactor", "adam", "sgd"])
def test_multipliers_scale_the_learning_rate_and_not_the_decay(name):
    decay = (("kernel", 0.03),)
    rules = (("head", 10.0), ("bias", 0.0))
    plain = updates_of(OptimizerConfig(name=name, learning_rate=RATE))
    decayed = updates_of(OptimizerConfig(name=name, learning_rate=RATE, weight_decay=decay))
    scaled = updates_of(
        OptimizerConfig(
            name=name, learning_rate=RATE, weight_decay=decay, learning_rate_multipliers=rules
        )
    )
    for one, with_decay, both in zip(plain, decayed, scaled, strict=True):
        by_decay = with_decay["head"]["kernel"] - one["head"]["kernel"]
        np.testing.assert_allclose(
            both["head"]["kernel"], 10.0 * one["head"]["kernel"] + by_decay, rtol=1e-5, atol=1e-6
        )
        np.testing.assert_array_equal(both["body"]["bias"], 0.0)
        np.testing.assert_array_equal(both["body"]["kernel"], with_decay["body"]["kernel"])


@pytest.mark.parametrize("name", ["adafactor", "adam", "sgd"])
def test_frozen_parameters_have_no_state_no_update_and_no_say_in_clipping(name):
    choices = dict(name=name, learning_rate=RATE, clip_norm=1.0)
    config = OptimizerConfig(**choices, weight_decay=(("kernel", 0.1),), freeze=(("body", True),))
    params = tree(0)
    optimizer = make_optimizer(config, HALF, params)
    state = optimizer.init(params)
    alone = make_optimizer(
        OptimizerConfig(**choices, weight_decay=(("kernel", 0.1),)), HALF, {"head": params["head"]}
    )
    state_alone = alone.init({"head": params["head"]})
    shapes = [leaf.shape for leaf in jax.tree.leaves(state)]
    assert sorted(shapes) == sorted(leaf.shape for leaf in jax.tree.leaves(state_alone))
    for step in range(2):
        gradients = tree(step + 1) | {"body": jax.tree.map(jnp.zeros_like, params["body"])}
        updates, state = optimizer.update(gradients, state, params)
        expected, state_alone = alone.update(
            {"head": gradients["head"]}, state_alone, {"head": params["head"]}
        )
        np.testing.assert_array_equal(updates["head"]["kernel"], expected["head"]["kernel"])
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(updates["body"]))


def test_the_first_matching_rule_decides_what_is_frozen():
    config = OptimizerConfig(freeze=(("head", False), ("kernel", True)))
    trained = trained_params(config, tree(0))
    assert trained == {"body": {"kernel": False, "bias": True}, "head": {"kernel": True}}
    assert trained_params(OptimizerConfig(), tree(0)) is None


@pytest.mark.parametrize("setting", ["weight_decay", "learning_rate_multipliers", "freeze"])
def test_a_pattern_that_matches_nothing_names_its_setting(setting):
    value = True if setting == "freeze" else 0.1
    config = OptimizerConfig(**{setting: (("kernle", value),)})
    with pytest.raises(ValueError, match=f"{setting}: 'kernle' matches no parameter"):
        make_optimizer(config, HALF, tree(0))


def test_freezing_everything_is_refused():
    with pytest.raises(ValueError, match="nothing to train"):
        make_optimizer(OptimizerConfig(freeze=((".", True),)), HALF, tree(0))


@pytest.mark.parametrize("name", ["adafactor", "adam", "sgd"])
def test_moments_of_a_partly_frozen_model_are_cut_as_their_parameters(name):
    config = vit.configure("S/4", width=32, mlp_dim=64, depth=2, heads=2, image_size=8)
    network: Network = vit.build(config).placed(
        jax.make_mesh((1, 1, 1), ("data", "fsdp", "tensor"))
    )
    rules = (("encoder/blocks/mlp", False), (".", True))
    optimizer = make_optimizer(
        OptimizerConfig(name=name, freeze=rules), HALF, network.abstract_params, network.axes
    )
    state = jax.eval_shape(optimizer.init, network.abstract_params)
    axes = state_axes(state, network.abstract_params, network.axes)
    flat = jax.tree.leaves_with_path(state)
    kernels = [
        jax.tree.reduce(lambda node, _: node, leaf).shape
        for path, leaf in flat
        if "input" in jax.tree_util.keystr(path) and leaf.ndim == 3
    ]
    named = jax.tree.structure(state).flatten_up_to(axes)
    assert all(len(names) == leaf.ndim for names, (_, leaf) in zip(named, flat, strict=True))
    found = {names for names, (_, leaf) in zip(named, flat, strict=True) if leaf.shape in kernels}
    assert found == {("layers", "embed", "mlp")}
    assert jax.tree.structure(abstract_state(network, optimizer).opt_state) == (
        jax.tree.structure(state)
    )
