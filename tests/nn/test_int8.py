"""Products of int8 numbers against a transcription in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from distill.nn import layers
from distill.nn.int8 import abstract_quantised, quantise, quantised
from distill.parallel import MeshConfig, make_mesh
from students import vit
from teachers import vit_22b

SHAPE = dict(width=16, depth=3, mlp_dim=24, heads=2, num_classes=5)
TOKENS, WIDTH, HEADS, SIZE = 7, 12, 3, 4


def in_numbers(x, axes):
    """Integers −127 … 127 and the factor of each slice, in float64."""
    largest = np.abs(x).max(axes, keepdims=True)
    factor = np.where(largest > 0, largest / 127, 1.0)
    return np.rint(x / factor), factor


def transcribed(x, kernel, bias, contracted):
    """x·W + b with both in int8, in float64."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    inputs = kernel.shape[:contracted]
    tokens = x.reshape(*x.shape[: x.ndim - contracted], -1)
    flat = kernel.reshape(np.prod(inputs), -1)
    numbers, per_token = in_numbers(tokens, (-1,))
    weights, per_channel = in_numbers(flat, (0,))
    product = (numbers @ weights) * per_token * per_channel
    return product.reshape(*tokens.shape[:-1], *kernel.shape[contracted:]) + np.asarray(bias)


def network(config=None, devices=1, **mesh):
    config = config or vit.configure("mu/4", image_size=8, **SHAPE)
    build = vit_22b.build if isinstance(config, vit_22b.ViT22BConfig) else vit.build
    return build(config).placed(make_mesh(MeshConfig(**mesh), jax.devices()[:devices]))


def initial(net):
    """Parameters of which none are zero, so that a classifier says something."""
    params = net.init(jax.random.key(0))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    return tree.unflatten(
        [x + 0.1 * jax.random.normal(key, x.shape) for x, key in zip(leaves, keys, strict=True)]
    )


def images(net, count=4):
    return jax.random.normal(jax.random.key(2), (count, *net.config.image_shape))


@pytest.mark.parametrize("outwards", [False, True], ids=["into heads", "out of heads"])
def test_a_map_is_the_transcription_in_float64(outwards):
    one, other = {"embed": WIDTH}, {"heads": HEADS, "head_dim": SIZE}
    inputs, outputs = (other, one) if outwards else (one, other)
    linear = layers.Linear(
        inputs, outputs, bias_init=jax.nn.initializers.normal(), rngs=nnx.Rngs(0)
    )
    kernel, bias = linear.kernel[...], linear.bias[...]
    x = 3 * jax.random.normal(jax.random.key(1), (2, TOKENS, *inputs.values()))
    exact = linear(x)
    linear.quantise()
    assert linear.kernel[...].dtype == jnp.int8
    assert linear.kernel_scale.axes == tuple(outputs)
    expected = transcribed(x, kernel, bias, len(inputs))
    np.testing.assert_allclose(linear(x), expected, rtol=1e-5, atol=1e-5)
    # Rounding is seen, and small.
    assert 1e-4 < np.abs(np.asarray(exact) - expected).max() < 0.1


def test_sums_are_exact_however_many_there_are():
    # As many as int32 holds, 2³¹ / 127²; ViT-22B has 24,576.
    size = 2**17
    linear = layers.Linear({"embed": size}, {"mlp": 1}, use_bias=False, rngs=nnx.Rngs(0))
    linear.kernel = nnx.Param(jnp.ones((size, 1)), axes=("embed", "mlp"))
    linear.quantise()
    assert linear(jnp.ones((1, size)))[0, 0] == pytest.approx(size, rel=2e-7)


def test_tokens_of_zeros_and_channels_of_zeros_stay_zero():
    linear = layers.Linear({"embed": WIDTH}, {"mlp": 3}, use_bias=False, rngs=nnx.Rngs(0))
    linear.kernel = nnx.Param(linear.kernel[...].at[:, 1].set(0.0), axes=("embed", "mlp"))
    linear.quantise()
    found = linear(jnp.stack([jnp.zeros(WIDTH), jnp.arange(1.0, WIDTH + 1)])[None])
    np.testing.assert_array_equal(found[0, 0], np.zeros(3))
    assert found[0, 1, 1] == 0.0 and found[0, 1, 0] != 0.0


@pytest.mark.parametrize(
    "config",
    [
        vit.configure("mu/4", image_size=8, gated=True, **SHAPE),
        vit_22b.configure("22B/14", image_size=28, **SHAPE),
    ],
    ids=["sequential", "parallel"],
)
def test_a_network_computes_in_int8_in_its_blocks_alone(config):
    net = network(config)
    params, x = initial(net), images(net)
    ours, found = quantised(net), quantise(net, params)
    changed = {
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree.leaves_with_path(found)
        if leaf.dtype == jnp.int8
    }
    blocks = [name for name in changed if "['encoder']['blocks']" in name]
    assert len(blocks) == len(changed) == (7 if getattr(config, "gated", False) else 6)
    exact, rounded = net.apply(params, x), ours.apply(found, x)
    error = jnp.linalg.norm(exact.embedding - rounded.embedding)
    assert 1e-3 < error / jnp.linalg.norm(exact.embedding) < 0.05
    assert rounded.logits.dtype == exact.logits.dtype == jnp.float32


def test_blocks_of_a_stack_have_factors_of_their_own():
    net = network()
    params = initial(net)
    kernel = params["encoder"]["blocks"]["mlp"]["input"]["kernel"]
    params["encoder"]["blocks"]["mlp"]["input"]["kernel"] = kernel.at[1].mul(100.0)
    scale = quantise(net, params)["encoder"]["blocks"]["mlp"]["input"]["kernel_scale"]
    expected = np.abs(params["encoder"]["blocks"]["mlp"]["input"]["kernel"]).max(1) / 127
    np.testing.assert_allclose(scale, expected, rtol=1e-6)


def test_what_is_planned_is_what_is_made():
    net = network()
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), initial(net))
    made = quantise(net, params)
    planned = abstract_quantised(net, jax.eval_shape(lambda: params))
    assert jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), made) == jax.tree.map(
        lambda x: (x.shape, x.dtype, x.sharding), planned
    )
    # The weights take half of what they took, and are most of it.
    inside = [jax.tree.leaves(one["encoder"]["blocks"]) for one in (params, made)]
    before, after = (sum(x.nbytes for x in leaves if x.ndim > 2) for leaves in inside)
    assert before / 2 < after < 0.75 * before


def test_networks_of_one_kind_are_equal_so_that_they_are_compiled_once():
    assert quantised(network()) == quantised(network())
    assert quantised(network()) != network()


@pytest.mark.parametrize("choice", ["fused", "async_linear"])
def test_projections_that_are_joined_are_refused(choice):
    net = network(vit_22b.configure("22B/14", image_size=28, **SHAPE, **{choice: True}))
    with pytest.raises(ValueError, match=rf"model\.{choice}=false"):
        quantised(net)
