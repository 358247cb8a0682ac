"""The Adafactor variant against a float64 NumPy transcription of arXiv 2106.04560, §3.4."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

from distill.optim import (
    OptimizerConfig,
    ScheduleConfig,
    factored_dims,
    make_optimizer,
    make_schedule,
    scale_by_factored_rms,
)
from students import vit

# Name: (shape, whether it is factored).
TENSORS = {
    "bias": ((40,), False),
    "wide_kernel": ((64, 48), True),
    "tall_kernel": ((33, 70), True),
    "narrow_kernel": ((16, 128), False),
    "barely_factored": ((32, 32), True),
    "query_kernel": ((40, 4, 33), True),
    "out_kernel": ((4, 34, 40), True),
    "table": ((6, 6, 64), False),
    "patch_kernel": ((5, 5, 32, 48), True),
    "thin_patch_kernel": ((4, 4, 3, 64), False),
}
LEARNING_RATE, DECAY = 0.5, 0.1


def reference_dims(shape):
    """(second largest, largest) dimension where the second largest is at least 32."""
    if len(shape) < 2:
        return None
    *_, second, largest = sorted(range(len(shape)), key=lambda d: (shape[d], d))
    return (second, largest) if shape[second] >= 32 else None


class Reference:
    """One tensor's optimiser in float64, but for the first moment, stored as bfloat16."""

    def __init__(self, shape):
        self.dims = reference_dims(shape)
        self.v = self.row = self.column = 0.0
        self.m = np.zeros(shape, ml_dtypes.bfloat16)
        self.t = 0

    def scale(self, g):
        beta = min(0.999, 1.0 - (self.t + 1.0) ** -0.8)
        self.t += 1
        g = g.astype(np.float64)
        squared = g**2 + 1e-30
        if self.dims is None:
            self.v = beta * self.v + (1 - beta) * squared
            return g / np.sqrt(self.v)
        second, largest = self.dims
        row, column = squared.mean(largest, keepdims=True), squared.mean(second, keepdims=True)
        self.row = beta * self.row + (1 - beta) * row
        self.column = beta * self.column + (1 - beta) * column
        v = self.row * self.column / self.row.mean(second, keepdims=True)
        return g / np.sqrt(v)

    def update(self, g, parameter, schedule, decay):
        m = 0.9 * self.m.astype(np.float64) + 0.1 * self.scale(g)
        self.m = m.astype(ml_dtypes.bfloat16)
        return -schedule * (LEARNING_RATE * m + decay * parameter)


def clip(gradients):
    norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients.values()))
    return {name: g / max(norm, 1.0) for name, g in gradients.items()}


def gradients_from(rng):
    """Of very different size from tensor to tensor and step to step, clipped now and then."""
    size = 10.0 ** rng.uniform(-4, 1)
    return {
        name: (size * 10.0**-i * rng.standard_normal(shape)).astype(np.float32)
        for i, (name, (shape, _)) in enumerate(TENSORS.items())
    }


def test_tensors_cover_both_forms():
    assert {name: reference_dims(s) is not None for name, (s, _) in TENSORS.items()} == {
        name: factored for name, (_, factored) in TENSORS.items()
    }
    for shape, _ in TENSORS.values():
        assert factored_dims(shape) == reference_dims(shape)


def test_factored_rms_is_the_transcription():
    transformation = scale_by_factored_rms()
    references = {name: Reference(shape) for name, (shape, _) in TENSORS.items()}
    state = transformation.init({name: np.zeros(s) for name, (s, _) in TENSORS.items()})
    update = jax.jit(transformation.update)
    rng = np.random.default_rng(0)
    for step in range(1, 51):
        gradients = gradients_from(rng)
        scaled, state = update(gradients, state)
        expected = {name: references[name].scale(g) for name, g in gradients.items()}
        if step in (1, 50):
            for name, wanted in expected.items():
                atol = 1e-5 * np.abs(wanted).max()
                np.testing.assert_allclose(scaled[name], wanted, rtol=0, atol=atol, err_msg=name)


def test_optimizer_is_the_transcription():
    rng = np.random.default_rng(0)
    params = {name: rng.standard_normal(s).astype(np.float32) for name, (s, _) in TENSORS.items()}
    config = OptimizerConfig(learning_rate=LEARNING_RATE, weight_decay=(("kernel", DECAY),))
    schedule = make_schedule(ScheduleConfig(warmup_steps=0, timescale_steps=10), 100)
    optimizer = make_optimizer(config, schedule, params)
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    references = {name: Reference(shape) for name, (shape, _) in TENSORS.items()}
    for step in range(50):
        gradients = gradients_from(rng)
        updates, state = update(gradients, state, params)
        clipped, multiplier = clip(gradients), 1 / np.sqrt(1 + step / 10)
        for name, reference in references.items():
            decay = DECAY if "kernel" in name else 0.0
            wanted = reference.update(clipped[name], params[name], multiplier, decay)
            if step in (0, 49):
                error = np.abs(updates[name] - wanted) / np.abs(wanted).max()
                # A moment that lies between two bfloat16 values may be stored as either one.
                assert error.max() < (2**-8 if step else 1e-5), name
                assert np.mean(error > 1e-5) <= 0.01, name


def test_second_moment_decay_grows_to_its_cap():
    """β2_t = 1 − (t + 1)^−0.8 until it reaches 0.999, after about 5600 steps."""
    transformation = scale_by_factored_rms()
    state = transformation.init(jnp.ones(3))
    for count, beta in [
        (0, 0.0),
        (9, 1 - 10**-0.8),
        (4999, 1 - 5000**-0.8),
        (6000, 0.999),
        (1_000_000, 0.999),
    ]:
        before = state._replace(count=jnp.int32(count), full=jnp.full(3, 4.0))
        _, after = transformation.update(jnp.full(3, 3.0), before)
        np.testing.assert_allclose(after.full, beta * 4.0 + (1 - beta) * 9.0, rtol=1e-5)
        assert after.count == count + 1
    assert 1 - 5000**-0.8 < 0.999 < 1 - 6001**-0.8


def test_first_update_has_unit_size_whatever_the_gradient():
    """β2_0 = 0: nothing is divided by a moment that is still zero."""
    for size in (1e-8, 1.0, 1e8):
        scaled, _ = (t := scale_by_factored_rms()).update(
            jnp.array([size, -size]), t.init(jnp.zeros(2))
        )
        np.testing.assert_allclose(scaled, [1.0, -1.0], rtol=1e-5)


def test_epsilon_is_1e_30():
    transformation = scale_by_factored_rms()
    gradient = jnp.full(3, 1e-15)
    scaled, _ = transformation.update(gradient, transformation.init(gradient))
    np.testing.assert_allclose(scaled, np.sqrt(0.5), rtol=1e-5)


def test_zero_gradients_stay_zero():
    transformation = scale_by_factored_rms()
    gradients = {"kernel": jnp.zeros((32, 40)), "bias": jnp.zeros(40)}
    scaled, _ = transformation.update(gradients, transformation.init(gradients))
    assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(scaled))


def test_stacked_layers_are_the_optimiser_of_layers_one_by_one():
    """48 layers make a stack of norms [48, 64] look like a matrix; it must not be one."""
    network = vit.build(
        vit.configure(
            "S/4", width=64, mlp_dim=96, heads=2, depth=48, image_size=8, num_classes=0, head="gap"
        )
    )
    rng = np.random.default_rng(0)
    shapes = network.abstract_params
    params = jax.tree.map(lambda s: jnp.asarray(rng.standard_normal(s.shape), jnp.float32), shapes)
    layer = lambda tree, i: jax.tree.map(lambda a: a[i], tree["encoder"]["blocks"])  # noqa: E731

    config = OptimizerConfig(weight_decay=(("kernel", 0.03),), clip_norm=None)
    constant = make_schedule(ScheduleConfig(kind="constant", warmup_steps=0), 10)
    stacked = make_optimizer(config, constant, shapes, network.axes)
    single = make_optimizer(config, constant, layer(params, 0))
    some = (0, 47)
    state = stacked.init(params)
    states = {i: single.init(layer(params, i)) for i in some}
    update_stacked, update_single = jax.jit(stacked.update), jax.jit(single.update)
    for step in range(3):
        gradients = jax.tree.map(
            lambda s, step=step: jnp.asarray(
                10.0**step * rng.standard_normal(s.shape) * rng.uniform(0.1, 10, s.shape),
                jnp.float32,
            ),
            shapes,
        )
        updates, state = update_stacked(gradients, state, params)
        for i in some:
            expected, states[i] = update_single(layer(gradients, i), states[i], layer(params, i))
            jax.tree.map(
                lambda a, e: np.testing.assert_allclose(a, e, rtol=0, atol=1e-6 * np.abs(e).max()),
                layer(updates, i),
                expected,
            )


def test_layers_never_take_part_in_factoring():
    assert factored_dims((48, 1664), ("layers", "embed")) is None
    assert factored_dims((48, 1664)) == (0, 1)
    assert factored_dims((2000, 64, 4, 48), ("layers", "embed", "heads", "head_dim")) == (3, 1)
    assert factored_dims((48, 31, 64), ("layers", "embed", "mlp")) is None
    assert factored_dims((48, 32, 64), ("layers", "embed", "mlp")) == (1, 2)


@pytest.mark.parametrize("size", [1e-12, 1e-3, 1.0, 1e10, 2e18, np.inf, np.nan])
def test_clipping_within_is_clipping_before(size):
    """Also where the square of what gradients are multiplied by would be no float32."""
    within = scale_by_factored_rms(clip_norm=0.5)
    before = optax.chain(optax.clip_by_global_norm(0.5), scale_by_factored_rms())
    params = {name: np.zeros(shape, np.float32) for name, (shape, _) in TENSORS.items()}
    states = [within.init(params), before.init(params)]
    updates = [jax.jit(within.update), jax.jit(before.update)]
    rng = np.random.default_rng(0)
    for one in (1.0, size, 1.0):
        gradients = gradients_from(rng)
        gradients["wide_kernel"] *= np.float32(one)
        found, wanted = (update(gradients, s) for update, s in zip(updates, states, strict=True))
        states = [found[1], wanted[1]]
        for name, scaled in wanted[0].items():
            scaled = np.asarray(scaled)
            atol = 1e-6 * np.abs(scaled).max(initial=0)
            np.testing.assert_allclose(found[0][name], scaled, rtol=1e-5, atol=atol, err_msg=name)
