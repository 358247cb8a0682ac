"""LayerNorm and attention where the whole model would not show a mistake."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill.nn.kernels import attend
from distill.nn.layers import LayerNorm


@pytest.mark.parametrize("center", [True, False])
def test_layer_norm_epsilon_is_1e_6(center):
    """Inputs of variance near epsilon, where a wrong one is plain to see."""
    x = 1e-3 * np.random.default_rng(0).standard_normal((3, 16)) + 5e-4
    y = x - x.mean(-1, keepdims=True) if center else x
    expected = y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-6)
    norm = LayerNorm("embed", 16, use_bias=False, center=center)
    np.testing.assert_allclose(norm(jnp.asarray(x, jnp.float32)), expected, rtol=1e-4, atol=1e-5)


def test_layer_norm_computes_in_float32_whatever_comes_in():
    """In bfloat16 the mean of these values would lose their differences."""
    x = jnp.asarray(200 + np.arange(16), jnp.bfloat16)[None]
    exact = np.asarray(x, np.float64)
    exact = exact - exact.mean()
    norm = LayerNorm("embed", 16, dtype=jnp.bfloat16)
    assert norm(x).dtype == jnp.bfloat16
    np.testing.assert_allclose(
        np.asarray(norm(x), np.float64), exact / exact.std(axis=-1), rtol=5e-3, atol=5e-3
    )


def test_softmax_of_attention_is_float32_in_bfloat16_models():
    """256 equal weights of 1/256: summed in bfloat16 they would not come to one."""
    rng = np.random.default_rng(0)
    q = jnp.zeros((1, 1, 1, 8), jnp.bfloat16)
    k = jnp.asarray(rng.standard_normal((1, 300, 1, 8)), jnp.bfloat16)
    v = jnp.ones((1, 300, 1, 8), jnp.bfloat16)
    out = attend(q, k, v)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(out, np.float32), 1.0, atol=2**-8)


def test_attention_survives_logits_of_fifty_thousand():
    q = jnp.asarray([[[[300.0, 0.0]], [[0.0, 300.0]]]])
    out = attend(q, q, q)
    assert np.isfinite(np.asarray(out)).all()
    np.testing.assert_allclose(out, q)
    gradient = jax.grad(lambda q: jnp.sum(attend(q, q, q) ** 2))(q)
    assert np.isfinite(np.asarray(gradient)).all()
