"""Losses against float64 NumPy formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill.losses import (
    cosine_distance,
    euclidean_distance,
    kl_divergence,
    mean_squared_error,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
    squared_distance,
)


def log_softmax(z):
    z = np.asarray(z, np.float64)
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def reference_kl(teacher, student, temperature):
    """T²·Σ p·(log p − log q), nothing clipped."""
    log_p, log_q = log_softmax(teacher / temperature), log_softmax(student / temperature)
    return temperature**2 * (np.exp(log_p) * (log_p - log_q)).sum(-1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 10.0])
@pytest.mark.parametrize("spread", [1.0, 40.0])
def test_kl_is_the_formula(temperature, spread):
    """A spread of 40 gives many classes less than float32's smallest share of 1."""
    rng = np.random.default_rng(0)
    teacher, student = spread * rng.standard_normal((2, 6, 9))
    actual = kl_divergence(
        jnp.asarray(teacher, jnp.float32), jnp.asarray(student, jnp.float32), temperature
    )
    expected = reference_kl(
        teacher.astype(np.float32).astype(np.float64),
        student.astype(np.float32).astype(np.float64),
        temperature,
    )
    assert actual.shape == (6,)
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5 * temperature**2)


def test_kl_temperature_defaults_to_one():
    teacher, student = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 4)))
    np.testing.assert_array_equal(
        kl_divergence(teacher, student), kl_divergence(teacher, student, 1.0)
    )


@pytest.mark.parametrize("temperature", [1.0, 2.0, 10.0])
@pytest.mark.parametrize("gap", [1.0, 19.0, 50.0, 100.0])
def test_gradient_of_kl_is_not_cut_off_however_wrong_the_student_is(gap, temperature):
    """Against central differences of the formula in float64."""
    teacher, student = np.array([[0.0, gap, 0.3]]), np.array([[gap, 0.0, 0.1]])
    differences = [
        (
            reference_kl(teacher, student + step, temperature)
            - reference_kl(teacher, student - step, temperature)
        )[0]
        / 2e-5
        for step in 1e-5 * np.eye(3)
    ]
    gradient = jax.grad(
        lambda z: jnp.sum(kl_divergence(jnp.asarray(teacher, jnp.float32), z, temperature))
    )(jnp.asarray(student, jnp.float32))
    np.testing.assert_allclose(gradient[0], differences, atol=1e-4)


@pytest.mark.parametrize(
    ("teacher", "student"), [([0.0, 19.0], [19.0, 0.0]), ([0.0, 5.0, 0.0], [25.0, 0.0, 0.0])]
)
def test_a_student_sure_of_the_wrong_class_recovers(teacher, student):
    teacher, student = jnp.array([teacher]), jnp.array([student])
    gradient = jax.grad(lambda z: jnp.sum(kl_divergence(teacher, z)))
    student = jax.lax.fori_loop(0, 2000, lambda _, z: z - gradient(z), student)
    assert kl_divergence(teacher, student)[0] < 0.01


def test_a_class_that_the_teacher_rules_out_adds_nothing():
    """Its logit is −inf, as a mask makes it; the student may give it any probability, or none."""
    teacher = jnp.array([[1.0, 2.0, -jnp.inf]] * 3)
    student = jnp.array([[0.0, 0.5, 3.0], [0.0, 0.5, -1e9], [0.0, 0.5, -jnp.inf]])
    values, gradient = jax.vmap(jax.value_and_grad(lambda z, t: kl_divergence(t, z)))(
        student, teacher
    )
    p, q = np.exp(log_softmax([1.0, 2.0])), np.exp(log_softmax(np.array(student[0])))
    np.testing.assert_allclose(values[0], np.sum(p * np.log(p / q[:2])), rtol=1e-6)
    np.testing.assert_allclose(gradient[0], q - [*p, 0.0], atol=1e-6)
    without = kl_divergence(teacher[:1, :2], student[:1, :2])
    np.testing.assert_allclose(values[1:], np.repeat(without, 2), rtol=1e-6)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("loss", [sigmoid_cross_entropy, softmax_cross_entropy])
def test_a_class_that_the_student_cannot_give_costs_nothing_where_it_is_not_the_target(loss):
    logits, targets = jnp.array([[1.0, 2.0, -jnp.inf]]), jnp.array([[0.25, 0.75, 0.0]])
    value, gradient = jax.value_and_grad(lambda z: jnp.sum(loss(z, targets)))(logits)
    np.testing.assert_allclose(value, loss(logits[:, :2], targets[:, :2])[0], rtol=1e-6)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_kl_of_equal_logits_is_zero(temperature):
    logits = jnp.asarray(30 * np.random.default_rng(0).standard_normal((4, 11)), jnp.float32)
    np.testing.assert_allclose(
        kl_divergence(logits, logits, temperature), 0, atol=1e-5 * temperature**2
    )
    shifted = kl_divergence(logits, logits + 3.0, temperature)
    np.testing.assert_allclose(shifted, 0, atol=1e-4 * temperature**2)


def test_kl_weighs_by_the_teacher():
    """The other direction is another number."""
    teacher, student = jnp.array([[0.0, 3.0, 1.0]]), jnp.array([[1.0, 0.0, -2.0]])
    assert abs(float(kl_divergence(teacher, student)[0] - kl_divergence(student, teacher)[0])) > 0.1


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_gradient_of_kl_is_the_difference_of_probabilities(temperature):
    rng = np.random.default_rng(0)
    teacher, student = rng.standard_normal((2, 2, 7)).astype(np.float32)
    gradient = jax.grad(lambda z: jnp.sum(kl_divergence(teacher, z, temperature)))(student)
    p, q = (np.exp(log_softmax(z / temperature)) for z in (teacher, student))
    np.testing.assert_allclose(gradient, temperature * (q - p), atol=1e-5)


def reference_sigmoid_cross_entropy(logits, targets):
    z = np.asarray(logits, np.float64)
    log_p, log_not_p = -np.logaddexp(0, -z), -np.logaddexp(0, z)
    return -(targets * log_p + (1 - targets) * log_not_p).sum(-1)


@pytest.mark.parametrize("spread", [1.0, 1e4])
def test_sigmoid_cross_entropy_sums_over_classes(spread):
    rng = np.random.default_rng(0)
    logits = spread * rng.uniform(-1, 1, (5, 13)).astype(np.float32)
    targets = rng.uniform(0, 1, (5, 13)).astype(np.float32)
    actual = sigmoid_cross_entropy(jnp.asarray(logits), jnp.asarray(targets))
    assert actual.shape == (5,)
    np.testing.assert_allclose(actual, reference_sigmoid_cross_entropy(logits, targets), rtol=1e-5)


@pytest.mark.parametrize("spread", [1.0, 1e4])
def test_softmax_cross_entropy_is_the_formula(spread):
    rng = np.random.default_rng(0)
    logits = spread * rng.uniform(-1, 1, (5, 13)).astype(np.float32)
    targets = rng.dirichlet(np.ones(13), 5).astype(np.float32)
    actual = softmax_cross_entropy(jnp.asarray(logits), jnp.asarray(targets))
    assert actual.shape == (5,)
    np.testing.assert_allclose(actual, -(targets * log_softmax(logits)).sum(-1), rtol=1e-5)


@pytest.mark.parametrize("loss", [sigmoid_cross_entropy, softmax_cross_entropy])
@pytest.mark.parametrize("logits", [[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4], [-1e4, -1e4, -1e4]])
def test_losses_and_gradients_are_finite_at_extreme_logits(loss, logits):
    logits, targets = jnp.array([logits]), jnp.array([[1.0, 0.0, 0.0]])
    value, gradient = jax.value_and_grad(lambda z: jnp.sum(loss(z, targets)))(logits)
    assert np.isfinite(value)
    assert np.isfinite(np.asarray(gradient)).all()


def test_kl_is_finite_at_extreme_logits():
    teacher, student = jnp.array([[1e4, -1e4, 0.0]]), jnp.array([[-1e4, 1e4, 1e4]])
    value, gradient = jax.value_and_grad(lambda z: jnp.sum(kl_divergence(teacher, z)))(student)
    assert value == pytest.approx(2e4 + np.log(2), rel=1e-6)
    assert np.isfinite(np.asarray(gradient)).all()


def test_distances_of_vectors_are_the_formulas():
    a, b = np.random.default_rng(0).standard_normal((2, 6, 9))
    norms = np.linalg.norm(a - b, axis=-1)
    np.testing.assert_allclose(euclidean_distance(a, b), norms, rtol=1e-5)
    np.testing.assert_allclose(squared_distance(a, b), norms**2, rtol=1e-5)


@pytest.mark.parametrize("shape", [(6, 9), (6, 4, 9)])
def test_distances_of_features_are_means_over_all_but_the_batch(shape):
    a, b = np.random.default_rng(0).standard_normal((2, *shape))
    cosine = np.sum(a * b, -1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    expected = [1 - np.mean(c) for c in cosine]
    np.testing.assert_allclose(cosine_distance(a, b), expected, rtol=1e-5)
    np.testing.assert_allclose(cosine_distance(3 * a, b), expected, rtol=1e-5)
    expected = [np.mean(d**2) for d in a - b]
    np.testing.assert_allclose(mean_squared_error(a, b), expected, rtol=1e-5)


@pytest.mark.parametrize("distance", [euclidean_distance, cosine_distance])
def test_gradients_are_finite_where_a_distance_has_a_corner(distance):
    zeros = jnp.zeros((2, 3))
    gradient = jax.grad(lambda x: jnp.sum(distance(zeros, x)))(zeros)
    np.testing.assert_array_equal(gradient, zeros)
