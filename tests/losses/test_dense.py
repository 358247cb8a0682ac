"""Terms of patch tokens against float64 NumPy, torch, and what must not change them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill.losses import gram_distance, known_terms, smooth_l1


def features(*shape, seed=0, spread=1.0):
    return spread * np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("shape", [(5, 7), (5, 4, 7), (5, 3, 4, 7)])
@pytest.mark.parametrize("spread", [0.3, 3.0])
def test_smooth_l1_is_the_formula_with_beta_1(shape, spread):
    a, b = features(2, *shape, spread=spread)
    expected = []
    for one, other in zip(a, b, strict=True):
        sizes = np.abs(one - other).ravel()
        expected.append(sum(d * d / 2 if d < 1 else d - 0.5 for d in sizes) / len(sizes))
    found = smooth_l1(jnp.float32(a), jnp.float32(b))
    assert found.shape == (5,)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_smooth_l1_is_that_of_torch():
    torch = pytest.importorskip("torch")
    a, b = features(2, 5, 4, 7, spread=2.0)
    expected = torch.nn.functional.smooth_l1_loss(torch.tensor(b), torch.tensor(a))
    np.testing.assert_allclose(np.mean(smooth_l1(a, b)), expected, rtol=1e-5)


def test_the_gradient_of_smooth_l1_is_bounded_and_continuous():
    ends = jnp.array([[-1e6, -1.0, -1e-3, 0.0, 1e-3, 1.0, 1e6]])
    gradient = jax.grad(lambda x: jnp.sum(smooth_l1(jnp.zeros_like(x), x)))(ends)
    np.testing.assert_allclose(7 * gradient, np.clip(ends, -1, 1), rtol=1e-6)


def reference_gram(teacher, student):
    """The mean over pairs of patches, one by one."""

    def cosine(x, i, j):
        return x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j])

    pairs = [(i, j) for i in range(len(teacher)) for j in range(len(teacher))]
    return np.mean([(cosine(student, i, j) - cosine(teacher, i, j)) ** 2 for i, j in pairs])


def test_gram_compares_the_cosines_of_all_pairs_of_patches_of_an_image():
    teacher, student = features(3, 6, 5), features(3, 6, 9, seed=1)
    expected = [reference_gram(t, s) for t, s in zip(teacher, student, strict=True)]
    assert min(expected) > 0.05
    found = gram_distance(jnp.float32(teacher), jnp.float32(student))
    assert found.shape == (3,)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_gram_of_layers_is_the_mean_of_that_of_each():
    teacher, student = features(3, 2, 6, 5), features(3, 2, 6, 9, seed=1)
    expected = [
        np.mean([reference_gram(t, s) for t, s in zip(one, other, strict=True)])
        for one, other in zip(teacher, student, strict=True)
    ]
    np.testing.assert_allclose(gram_distance(teacher, student), expected, rtol=1e-5)


def test_gram_sees_neither_rotations_nor_how_long_tokens_are():
    teacher = features(3, 6, 5)
    turn, _ = np.linalg.qr(features(8, 5, seed=2))
    lengths = np.random.default_rng(3).uniform(0.1, 10, (3, 6, 1))
    np.testing.assert_allclose(gram_distance(teacher, lengths * teacher @ turn.T), 0, atol=1e-10)


def test_gradients_are_finite_for_tokens_of_zeros():
    teacher = jnp.float32(features(2, 4, 3))
    for function in (gram_distance, smooth_l1):
        value, gradient = jax.value_and_grad(lambda x, f=function: jnp.sum(f(teacher, x)))(
            jnp.zeros((2, 4, 3))
        )
        assert np.isfinite(value) and np.isfinite(gradient).all()


def test_gram_needs_no_projection_and_the_others_one():
    terms = {name: one.is_projected for name, one in known_terms().items()}
    named = {name for name in terms if name.startswith(("tokens_", "layers_"))}
    assert {name for name in named if not terms[name]} == {"tokens_gram", "layers_gram"}
    assert terms["embedding_smooth_l1"]
    # Each image is compared for itself, so that batches may be cut up.
    assert all(known_terms()[name].mean_over_examples for name in named)
