"""Standardising teachers' features: Hadamard matrices, moments, and what they do to features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill.errors import RunFailed
from distill.tasks.matching.hadamard import hadamard
from distill.tasks.matching.standardise import (
    Moments,
    abstract_statistics,
    batch_moments,
    standardise,
)

KINDS = ("standard", "phi_s")


@pytest.mark.parametrize(
    "size", [1, 2, 4, 8, 12, 20, 28, 36, 44, 64, 192, 384, 768, 1024, 1152, 1280, 1408, 1536, 1664]
)
def test_hadamard_matrices_have_orthogonal_rows_of_ones(size):
    found = hadamard(size).astype(np.int64)
    assert set(np.unique(found)) <= {-1, 1}
    np.testing.assert_array_equal(found @ found.T, size * np.eye(size, dtype=np.int64))


def test_hadamard_matrices_of_powers_of_two_are_sylvesters():
    scipy = pytest.importorskip("scipy.linalg")
    np.testing.assert_array_equal(hadamard(32), scipy.hadamard(32))


@pytest.mark.parametrize("size", [0, 3, 6, 10, 30, 92])
def test_other_sizes_are_refused(size):
    with pytest.raises(ValueError, match=f"no Hadamard matrix of size {size} is known here"):
        hadamard(size)


def correlated(count, width, seed=0):
    """Gaussian vectors far from 0 whose dimensions vary unlike and together."""
    rng = np.random.default_rng(seed)
    spread = np.geomspace(0.01, 10, width)
    turn, _ = np.linalg.qr(rng.standard_normal((width, width)))
    return rng.standard_normal((count, width)) * spread @ turn + 20 * rng.standard_normal(width)


def statistics(batches, kind, feature="tokens"):
    """Of the answers of one teacher, batch by batch."""
    moments = Moments()
    for batch in batches:
        answers = {feature: {"t": jnp.asarray(batch, jnp.float32)}}
        mean, spread = batch_moments(answers, [feature], kind)[feature]["t"]
        moments.add(np.asarray(mean), np.asarray(spread))
    return moments.statistics(f"{feature}/t")


def standardised(values, found, feature="tokens"):
    answers = {feature: {"t": jnp.asarray(values, jnp.float32)}, "logits": {"t": jnp.ones(1)}}
    done = standardise(answers, {feature: {"t": jax.tree.map(jnp.asarray, found)}})
    assert done.keys() == {feature}
    return np.asarray(done[feature]["t"], np.float64)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [8, 12, 20])
def test_every_dimension_gets_mean_0_and_variance_1(kind, width):
    tokens = correlated(6 * 40 * 16, width).reshape(6, 40, 16, width)
    done = standardised(tokens.reshape(-1, 16, width), statistics(tokens, kind))
    flat = done.reshape(-1, width)
    np.testing.assert_allclose(flat.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(flat.var(0), 1, rtol=1e-3)


def test_standard_is_the_formula():
    values = correlated(500, 6)
    found = standardised(values, statistics([values], "standard", "embedding"), "embedding")
    np.testing.assert_allclose(found, (values - values.mean(0)) / values.std(0), atol=2e-3)


def test_phi_s_turns_and_scales_all_alike():
    """Distances keep their ratios, which dividing each dimension by its own deviation does not."""
    values = correlated(300, 12)
    scale = np.sqrt(np.mean(np.var(values, axis=0)))
    distances = np.linalg.norm(values[:, None] - values, axis=-1) / scale
    found = {
        k: standardised(values, statistics([values], k, "embedding"), "embedding") for k in KINDS
    }
    apart = {k: np.linalg.norm(x[:, None] - x, axis=-1) for k, x in found.items()}
    np.testing.assert_allclose(apart["phi_s"], distances, atol=1e-3)
    assert np.abs(apart["standard"] - distances).max() > 1


@pytest.mark.parametrize("kind", KINDS)
def test_moments_of_batches_are_those_of_all_at_once(kind):
    values = correlated(1200, 8)
    parts = statistics(np.split(values, 6), kind, "embedding")
    whole = statistics([values], kind, "embedding")
    found = [standardised(values, one, "embedding") for one in (parts, whole)]
    # Components have no sign of their own, and PHI-S adds them up.
    sizes = [np.linalg.norm(one, axis=-1) for one in found]
    np.testing.assert_allclose(*sizes, rtol=1e-3)
    np.testing.assert_allclose(parts["mean"], whole["mean"], rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_each_layer_is_standardised_by_its_own_moments(kind):
    one, other = (correlated(5 * 30, 8, seed).reshape(5, 30, 8) for seed in (0, 1))
    both = np.stack([one, 100 * other], axis=1)
    found = standardised(both, statistics([both], kind, "layers"), "layers")
    alone = [standardised(x, statistics([x], kind)) for x in (one, 100 * other)]
    assert found.shape == both.shape
    np.testing.assert_allclose(found, np.stack(alone, axis=1), atol=2e-3)


def test_a_dimension_that_is_constant_is_not_blown_up():
    values = correlated(400, 8)
    values[:, 3] = 5.0
    for kind in KINDS:
        found = standardised(values, statistics([values], kind, "embedding"), "embedding")
        assert np.isfinite(found).all()
        assert np.abs(found).max() < 20


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [2.0, np.nan])
def test_what_never_varies_or_is_no_number_is_refused(kind, value):
    with pytest.raises(RunFailed, match="tokens/t has no variance to divide by"):
        statistics([np.full((4, 3, 8), value)], kind)


def test_a_width_that_cannot_be_turned_is_refused_with_what_to_type():
    shapes = {"tokens": {"a": (10,)}}
    with pytest.raises(ValueError, match=r"teacher a, 10 wide.*standardise=standard"):
        abstract_statistics("phi_s", shapes)
    assert abstract_statistics("standard", shapes)["tokens"]["a"]["scale"].shape == (10,)
    layers = abstract_statistics("phi_s", {"layers": {"a": (3, 12)}})["layers"]["a"]
    assert layers["mean"].shape == (3, 12) and layers["rotation"].shape == (3, 12, 12)
