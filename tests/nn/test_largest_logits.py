"""The largest attention logits against float64 NumPy, layer by layer."""

import dataclasses

import jax
import numpy as np
import pytest

from distill.metrics import Largest
from distill.nn import ViTConfig
from students import vit
from teachers import vit_22b

SHAPE = dict(width=16, depth=3, mlp_dim=24, heads=2, image_size=12, num_classes=3, channels=1)
BATCH = 5


def drawn(network, scale=1.5):
    """Parameters none of which is what it starts as."""
    leaves, tree = jax.tree.flatten(network.abstract_params)
    rng = np.random.default_rng(0)
    return tree.unflatten(
        [
            np.float32(scale * rng.standard_normal(leaf.shape) / leaf.shape[-1] ** 0.5)
            for leaf in leaves
        ]
    )


def layer_norm(x, params, epsilon, center):
    x = x - x.mean(-1, keepdims=True) if center else x
    y = x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + epsilon) * params["scale"]
    return y + params["bias"] if "bias" in params else y


def projected(y, params):
    z = np.tensordot(y, np.float64(params["kernel"]), 1)
    return z + params["bias"] if "bias" in params else z


def reference(config, params, before):
    """Of the tokens before each layer."""
    found = []
    for number, x in enumerate(before):
        block = jax.tree.map(lambda one, n=number: np.float64(one[n]), params["encoder"]["blocks"])
        maps = block.get("attention", block)
        norm = block["attention_norm"] if "attention_norm" in block else block["norm"]
        y = layer_norm(np.float64(x), norm, config.norm_epsilon, config.norm_center)
        q, k = projected(y, maps["query"]), projected(y, maps["key"])
        if config.qk_norm:
            names = {"query": q, "key": k}
            q, k = (layer_norm(z, maps["qk_norm"][name], 1e-6, False) for name, z in names.items())
        products = np.einsum("bthk,bshk->bhts", q, k) / np.sqrt(q.shape[-1])
        found.append(np.abs(products).max(axis=(1, 2, 3)))
    return np.stack(found, axis=1)


def networks():
    sequential = ViTConfig(patch_size=4, **SHAPE)
    parallel = vit_22b.configure("22B/4", **SHAPE)
    yield "sequential", vit.build(sequential)
    yield (
        "with QK norm and a class token",
        vit.build(dataclasses.replace(sequential, qk_norm=True, head="cls")),
    )
    yield "parallel", vit_22b.build(parallel)
    yield "parallel without QK norm", vit_22b.build(dataclasses.replace(parallel, qk_norm=False))


@pytest.mark.parametrize("network", [pytest.param(one, id=name) for name, one in networks()])
def test_they_are_those_of_the_formulas(network):
    params = drawn(network)
    images = np.random.default_rng(1).standard_normal((BATCH, 12, 12, 1)).astype(np.float32)
    found = jax.jit(network.largest_attention_logits)(params, images)
    assert found.shape == (BATCH, 3) and found.dtype == np.float32
    _, tokens = network.with_layers(params, images, (1, 2), normed=False)
    after = np.asarray(tokens.patches).reshape(BATCH, 2, 9, 16)
    if network.config.head == "cls":
        after = np.concatenate([np.asarray(tokens.class_token)[:, :, None], after], axis=2)
    patches = images.reshape(BATCH, 3, 4, 3, 4, 1).swapaxes(2, 3).reshape(BATCH, 9, 16)
    linear = params["patch_embed"]["linear"]
    first = patches @ linear["kernel"].reshape(16, 16) + linear["bias"]
    first = first + params["position"]["table"].reshape(1, 9, 16)
    if network.config.head == "cls":
        token = np.broadcast_to(params["class_token"], (BATCH, 1, 16))
        first = np.concatenate([token, first], axis=1)
    before = [first, *after.swapaxes(0, 1)]
    np.testing.assert_allclose(found, reference(network.config, params, before), rtol=2e-5)


def test_the_largest_of_batches_is_that_of_all_that_count():
    values = np.array([[1.0, -5.0], [np.nan, np.inf], [3.0, -7.0], [2.0, -9.0]], np.float32)
    counts = np.array([True, False, True, True])
    first = Largest.of(values[:2], counts[:2], ("a", "b"))
    none = Largest.of(values[1:2], counts[1:2], ("a", "b"))
    both = first.merge(none).merge(Largest.of(values[2:], counts[2:], ("a", "b")))
    assert both.value() == {"a": 3.0, "b": -5.0} and both.count == 3
    assert np.isfinite(none.found).all() and none.value() == {"a": None, "b": None}
    assert Largest.of(values[2:, 0], counts[2:]).value() == 3.0
