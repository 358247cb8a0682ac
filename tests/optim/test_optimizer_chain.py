"""What surrounds the moments: clipping, decay, schedule, Adam, memory."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from distill.optim import (
    OptimizerConfig,
    ScheduleConfig,
    make_optimizer,
    make_schedule,
    state_bytes,
)
from students import vit
from teachers import vit_g

CONSTANT = make_schedule(ScheduleConfig(kind="constant", warmup_steps=0), 1000)
HALF = lambda step: jnp.float32(0.5)  # noqa: E731
RECIPE_DECAY = ((r"classifier/kernel", 3.0), (r"kernel", 0.03))


def random_tree(tree, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape), jnp.float32), tree)


SMALL = {
    "kernel": jax.ShapeDtypeStruct((32, 40), jnp.float32),
    "bias": jax.ShapeDtypeStruct((40,), jnp.float32),
}


@pytest.mark.parametrize("name", ["adafactor", "adam"])
def test_gradients_are_clipped_to_their_global_norm_first(name):
    """The moments see clipped gradients, so that one spike cannot fill the second moment."""
    params, gradients = random_tree(SMALL, 0), random_tree(SMALL, 1)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(gradients)))
    unit = jax.tree.map(lambda g: g / norm, gradients)
    optimizer = make_optimizer(OptimizerConfig(name=name), CONSTANT, params)
    results = [
        optimizer.update(
            jax.tree.map(lambda g, s=size: s * g, unit), optimizer.init(params), params
        )
        for size in (1.0, 100.0)
    ]
    for one, other in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(
            np.asarray(one, np.float32), np.asarray(other, np.float32), rtol=1e-2 * 0.5
        )


def test_small_gradients_are_not_clipped():
    params, gradients = random_tree(SMALL, 0), random_tree(SMALL, 1)
    small = jax.tree.map(lambda g: 1e-3 * g, gradients)
    assert optax.tree.norm(small) < 1
    states = [
        make_optimizer(OptimizerConfig(clip_norm=norm), CONSTANT, params) for norm in (1.0, None)
    ]
    clipped, free = (o.update(small, o.init(params), params)[0] for o in states)
    jax.tree.map(np.testing.assert_array_equal, clipped, free)


def test_without_clip_norm_the_moments_see_the_gradient():
    params, gradients = random_tree(SMALL, 0), random_tree(SMALL, 1)
    optimizer = make_optimizer(OptimizerConfig(clip_norm=None), CONSTANT, params)
    _, state = optimizer.update(gradients, optimizer.init(params), params)
    [moments] = [s.full["bias"] for s in state if hasattr(s, "full")]
    np.testing.assert_allclose(moments, gradients["bias"] ** 2, rtol=1e-6)


@pytest.mark.parametrize("name", ["adafactor", "adam"])
@pytest.mark.parametrize("learning_rate", [8e-4, 1e-1])
def test_weight_decay_is_multiplied_by_the_schedule_but_not_by_the_rate(name, learning_rate):
    params = random_tree(SMALL, 0)
    config = OptimizerConfig(
        name=name, learning_rate=learning_rate, weight_decay=(("kernel", 0.03),)
    )
    optimizer = make_optimizer(config, HALF, params)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.5 * 0.03 * params["kernel"], rtol=1e-6)
    np.testing.assert_array_equal(updates["bias"], np.zeros(40))


def test_recipe_decays_kernels_only_and_the_classifier_most():
    network = vit.build(
        vit.configure(
            "S/4", width=16, depth=2, mlp_dim=16, heads=2, image_size=8, num_classes=3, head="map"
        )
    )
    params = jax.tree.map(lambda s: jnp.ones(s.shape), network.abstract_params)
    optimizer = make_optimizer(
        OptimizerConfig(weight_decay=RECIPE_DECAY), CONSTANT, params, network.axes
    )
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = jax.jit(optimizer.update)(zeros, optimizer.init(params), params)
    for path, update in jax.tree.leaves_with_path(updates):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        decay = 3.0 if name == "classifier/kernel" else 0.03 if name.endswith("/kernel") else 0.0
        np.testing.assert_allclose(update, np.full(update.shape, -decay), rtol=1e-6, err_msg=name)


def test_updates_follow_the_schedule_and_descend():
    params, gradients = random_tree(SMALL, 0), random_tree(SMALL, 1)
    schedule = make_schedule(ScheduleConfig(kind="linear", warmup_steps=2), 6)
    config = OptimizerConfig(learning_rate=0.1, b1=0.0)
    optimizer = make_optimizer(config, schedule, params)
    state = optimizer.init(params)
    sizes = []
    for _ in range(6):
        updates, state = optimizer.update(gradients, state, params)
        sizes.append(updates["bias"] / (-0.1 * np.sign(gradients["bias"])))
    expected = np.array([0.0, 0.5, 1.0, 0.75, 0.5, 0.25])
    np.testing.assert_allclose(np.mean(sizes, axis=1), expected, rtol=1e-5, atol=1e-7)


def test_adam_is_optax_adam_with_a_bfloat16_first_moment():
    params = random_tree(SMALL, 0)
    schedule = make_schedule(ScheduleConfig(kind="cosine", warmup_steps=3), 10)
    config = OptimizerConfig(name="adam", learning_rate=0.03, b1=0.8, b2=0.99, clip_norm=None)
    optimizer = make_optimizer(config, schedule, params)
    reference = optax.adam(
        lambda step: 0.03 * schedule(step), b1=0.8, b2=0.99, mu_dtype=jnp.bfloat16
    )
    state, expected_state = optimizer.init(params), reference.init(params)
    for step in range(5):
        gradients = random_tree(SMALL, step + 1)
        updates, state = optimizer.update(gradients, state, params)
        expected, expected_state = reference.update(gradients, expected_state, params)
        jax.tree.map(
            lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-9), updates, expected
        )


@pytest.mark.parametrize("name", ["adafactor", "adam"])
def test_first_moment_is_bfloat16_and_second_float32(name):
    params = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), SMALL)
    optimizer = make_optimizer(OptimizerConfig(name=name), CONSTANT, params)
    state = optimizer.init(params)
    kernels = [s for s in jax.tree.leaves(state) if s.shape == (32, 40)]
    dtypes = sorted(str(k.dtype) for k in kernels)
    assert dtypes == (["bfloat16"] if name == "adafactor" else ["bfloat16", "float32"])
    assert {str(s.dtype) for s in jax.tree.leaves(state)} <= {"bfloat16", "float32", "int32"}


def test_adafactor_state_of_vit_g_is_half_its_parameters_and_adam_three_halves():
    network = vit_g.build(vit_g.configure("G/14"))
    params = network.abstract_params
    parameter_bytes = 4 * network.parameter_count()

    def share(name):
        optimizer = make_optimizer(OptimizerConfig(name=name), CONSTANT, params, network.axes)
        return state_bytes(jax.eval_shape(optimizer.init, params)) / parameter_bytes

    assert 0.50 <= share("adafactor") <= 0.51
    assert 1.50 <= share("adam") <= 1.51


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"b1": 1.0}, "b1"),
        ({"b2": -0.1}, "b2"),
        ({"weight_decay": (("kernel", -1.0),)}, "weight_decay"),
    ],
)
def test_impossible_optimisers_are_refused(choice, message):
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**choice)
