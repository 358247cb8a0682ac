"""Mixup: λ ~ Beta(p, p), λ ← max(λ, 1 − λ), the partner is the batch rolled by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from distill.mixing import mix_labels, mixup


def random_images(batch=5, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (batch, 4, 6, 3)).astype(np.uint8)


@pytest.mark.parametrize("per_example", [False, True])
@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_images_are_mixed_with_the_one_before(alpha, per_example):
    images = random_images()
    mixed = mixup(jax.random.key(0), jnp.asarray(images), alpha, per_example=per_example)
    assert mixed.images.dtype == jnp.float32
    for i in range(5):
        weight = float(mixed.weights[i])
        expected = weight * images[i].astype(np.float64) + (1 - weight) * images[i - 1]
        np.testing.assert_allclose(mixed.images[i], expected, atol=1e-3)


@pytest.mark.parametrize("per_example", [False, True])
def test_an_image_is_never_less_than_half_itself(per_example):
    images = jnp.zeros((5, 1, 1, 1))
    keys = jax.random.split(jax.random.key(0), 50)
    weights = np.stack([mixup(k, images, 1.0, per_example=per_example).weights for k in keys])
    assert weights.shape == (50, 5)
    assert 0.5 <= weights.min() < 0.55
    assert 0.95 < weights.max() <= 1.0
    assert {len(np.unique(row)) for row in weights} == {5 if per_example else 1}


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_weights_have_the_distribution_of_a_folded_beta(alpha):
    """P(max(λ, 1 − λ) ≤ x) = F(x) − F(1 − x)."""
    images = jnp.zeros((4000, 1, 1, 1))
    weights = np.asarray(mixup(jax.random.key(1), images, alpha, per_example=True).weights)
    beta = scipy.stats.beta(alpha, alpha)
    for x in (0.55, 0.6, 0.7, 0.8, 0.9, 0.99):
        assert np.mean(weights <= x) == pytest.approx(beta.cdf(x) - beta.cdf(1 - x), abs=0.03)


def test_alpha_zero_leaves_images_as_they_are():
    images = random_images()
    mixed = mixup(jax.random.key(0), jnp.asarray(images), 0.0)
    np.testing.assert_array_equal(mixed.images, images)
    np.testing.assert_array_equal(mixed.weights, np.ones(5))


@pytest.mark.parametrize("per_example", [False, True])
def test_same_key_mixes_the_same_and_another_does_not(per_example):
    images = jnp.asarray(random_images())
    first, again, other = (
        mixup(jax.random.key(seed), images, 1.0, per_example=per_example) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.weights, again.weights)
    assert np.abs(first.weights - other.weights).max() > 1e-3


@pytest.mark.parametrize("per_example", [False, True])
def test_labels_are_mixed_as_the_images_are(per_example):
    """Images that are their own one-hot labels stay so after mixing."""
    labels = np.array([2, 0, 3, 3, 1])
    images = np.eye(4, dtype=np.float32)[labels].reshape(5, 1, 1, 4)
    mixed = mixup(jax.random.key(0), jnp.asarray(images), 1.0, per_example=per_example)
    targets = mix_labels(jnp.asarray(labels), mixed.weights, 4)
    np.testing.assert_allclose(targets, mixed.images.reshape(5, 4), atol=1e-6)
    np.testing.assert_allclose(targets.sum(-1), 1.0, atol=1e-6)


def test_labels_of_unmixed_images_are_one_hot():
    targets = mix_labels(jnp.array([1, 0]), jnp.ones(2), 3)
    np.testing.assert_array_equal(targets, [[0, 1, 0], [1, 0, 0]])
