"""Relational distillation against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import run_script

from distill.losses import relational

# As training has it: one by one its operations take seconds to compile.
relational_distance = jax.jit(relational.relational_distance)


def reference(teacher, student):
    """RKD-D of arXiv 1904.05068, §3.2.1, pair by pair."""

    def relations(x):
        distances = np.array([[np.linalg.norm(a - b) for b in x] for a in x])
        return distances / (distances.sum() / (len(x) * (len(x) - 1)))

    difference = np.abs(relations(student) - relations(teacher))
    huber = np.where(difference < 1, difference**2 / 2, difference - 0.5)
    return huber.sum() / (len(teacher) * (len(teacher) - 1))


def features(spread, widths=(5, 3), batch=7):
    rng = np.random.default_rng(0)
    return [spread * rng.standard_normal((batch, width)) ** 3 for width in widths]


@pytest.mark.parametrize("shift", [0.0, 100.0])
@pytest.mark.parametrize("spread", [0.1, 10.0])
def test_distances_of_all_pairs_are_the_formula(spread, shift):
    teacher, student = features(spread)
    expected = reference(teacher, student)
    assert expected > 0.01
    found = relational_distance(jnp.float32(teacher + shift), jnp.float32(student))
    assert found.shape == ()
    # A shift leaves float32 fewer digits of what lies beside it.
    np.testing.assert_allclose(found, expected, rtol=1e-2 if shift else 1e-5)


def test_both_branches_of_hubers_loss_are_reached():
    teacher, student = np.array([[0.0], [0.1], [9.0]]), np.array([[0.0], [9.0], [9.1]])
    found = relational_distance(jnp.float32(teacher), jnp.float32(student))
    np.testing.assert_allclose(found, reference(teacher, student), rtol=1e-5)


def test_scale_and_rotation_change_nothing():
    _, student = features(1.0)
    turned = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
    found = relational_distance(jnp.float32(student), jnp.float32(5.0 * student @ turned))
    assert abs(float(found)) < 1e-9


def test_the_gradient_is_that_of_the_formula():
    teacher, student = features(1.0)
    slope_of = jax.jit(jax.grad(relational_distance, argnums=1))
    gradient = slope_of(jnp.float32(teacher), jnp.float32(student))
    for at in np.ndindex(student.shape):
        step = np.zeros_like(student)
        step[at] = 1e-5
        slope = (reference(teacher, student + step) - reference(teacher, student - step)) / 2e-5
        np.testing.assert_allclose(gradient[at], slope, atol=1e-4)


@pytest.mark.parametrize("equal", [2, 7])
def test_equal_examples_have_a_finite_gradient(equal):
    teacher, student = features(1.0)
    student[:equal] = student[0]
    value, gradient = jax.jit(jax.value_and_grad(relational_distance, argnums=1))(
        jnp.float32(teacher), jnp.float32(student)
    )
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_a_batch_of_one_is_refused():
    with pytest.raises(ValueError, match="at least 2 examples"):
        relational_distance(jnp.ones((1, 3)), jnp.ones((1, 3)))


ON_FOUR_DEVICES = """
import json
import jax
jax.config.update("jax_num_cpu_devices", 4)
import numpy as np
from distill.losses.relational import relational_distance
from distill.parallel import MeshConfig, batch_sharding, make_mesh
rows = np.random.default_rng(0).standard_normal((2, 8, 5)).astype("float32")
mesh = make_mesh(MeshConfig(data=4))
cut = [jax.device_put(one, batch_sharding(mesh)) for one in rows]
print(json.dumps([float(jax.jit(relational_distance)(*both)) for both in (rows, cut)]))
"""


@pytest.mark.slow
def test_pairs_are_those_of_all_devices():
    whole, cut = run_script(ON_FOUR_DEVICES)
    assert cut == pytest.approx(whole, rel=1e-5)
