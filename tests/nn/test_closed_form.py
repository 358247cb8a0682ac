"""Gradients that are written out, beside those that JAX derives from the plain form."""

import functools
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from distill.nn import closed_form, layers
from distill.nn.closed_form import (
    add_bias,
    attention,
    forward_attention,
    gelu_tanh,
    layer_norm,
    plain_attention,
    product,
    short_gelu_tanh,
)
from distill.nn.kernels import attend
from distill.parallel import DEFAULT_RULES, MeshConfig, make_mesh, rules, sharding_context

FEATURES = {
    "drawn": lambda key: jax.random.normal(key, (3, 5, 16)),
    "constant rows": lambda key: jnp.ones((3, 5, 16)) * 7.5,
    "large": lambda key: 1e4 * jax.random.normal(key, (3, 5, 16)),
    "small": lambda key: 1e-6 * jax.random.normal(key, (3, 5, 16)),
    "far from zero": lambda key: 1e4 + jax.random.normal(key, (3, 5, 16)),
}


# What q and k are multiplied by, and the tokens of each: in cross attention they differ.
QUERIES = {
    "drawn": (1.0, 7, 7),
    "one query": (1.0, 1, 7),
    "more queries than keys": (1.0, 7, 3),
    "constant rows": (0.0, 7, 7),
    "one weight takes it all": (1e4, 7, 7),
    "weights all the same": (1e-6, 7, 7),
}

# Of x before its last axes, of these, and of what they become; either may be the longer one.
LINEAR_MAPS = {
    "to more": ((3, 5), (4,), (7,)),
    "to fewer": ((3, 5), (7,), (4,)),
    "to heads": ((3, 5), (6,), (2, 3)),
    "from heads": ((3, 5), (2, 4), (3,)),
    "one row": ((1,), (4,), (1,)),
    "many rows": ((4096,), (3,), (2,)),
}


def softmax_attention(q, k, v, causal):
    logits = jnp.einsum("bthk,bshk->bhts", q, k) / np.sqrt(q.shape[-1])
    if causal:
        logits = jnp.where(np.tri(*logits.shape[2:], dtype=bool), logits, -jnp.inf)
    return jnp.einsum("bhts,bshk->bthk", jax.nn.softmax(logits), v)


def queries(scale, tokens, keys, dtype):
    drawn = jax.random.split(jax.random.key(5), 3)
    q, k, v = (
        jax.random.normal(key, (2, size, 3, 8), dtype)
        for key, size in zip(drawn, (tokens, keys, keys), strict=True)
    )
    return (scale * q, scale * k, v) if scale else (jnp.full_like(q, 7.5), jnp.ones_like(k), v)


def plain_norm(x, scale, bias, center, epsilon):
    if center:
        x = x - jnp.mean(x, axis=-1, keepdims=True)
    y = x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + epsilon) * scale
    return y if bias is None else y + bias


def plain_gelu(x):
    return 0.5 * x * (1 + jnp.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def both(function, reference, *arguments, seed=9):
    """Values and gradients, by a random pull, of a function and its plain form."""
    found = []
    for one in (function, reference):
        y, pull = jax.vjp(one, *arguments)
        direction = jax.random.normal(jax.random.key(seed), y.shape, y.dtype)
        found.append((y, *pull(direction)))
    return found


def alike(ours, theirs, tolerance):
    for one, other in zip(ours, theirs, strict=True):
        scale = max(float(jnp.max(jnp.abs(other))), 1e-300)
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * scale)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("center, biased", [(True, True), (False, False), (True, False)])
def test_the_gradient_of_layer_norm_in_float64(x64, features, center, biased):
    keys = jax.random.split(jax.random.key(0), 3)
    x = FEATURES[features](keys[0]).astype(jnp.float64)
    scale = 1 + 0.1 * jax.random.normal(keys[1], (16,), jnp.float64)
    bias = jax.random.normal(keys[2], (16,), jnp.float64) if biased else None
    arguments = (x, scale, bias) if biased else (x, scale)

    def of(function):
        if biased:
            return lambda x, scale, bias: function(x, scale, bias, center, 1e-6)
        return lambda x, scale: function(x, scale, None, center, 1e-6)

    ours, theirs = both(of(layer_norm), of(plain_norm), *arguments)
    np.testing.assert_array_equal(ours[0], theirs[0])
    # A row that is far from 0 has lost digits before it comes to the norm.
    alike(ours[1:], theirs[1:], 1e-8 if features == "far from zero" else 1e-12)


def linear_map(rows, inputs, outputs, dtype, scale=1.0):
    """x, W and b of a linear map, written here with one axis of inputs and one of outputs."""
    drawn = jax.random.split(jax.random.key(8), 3)
    shapes = (*rows, *inputs), (*inputs, *outputs), outputs
    arrays = [scale * jax.random.normal(*one, dtype) for one in zip(drawn, shapes, strict=True)]

    def flat(x, kernel, bias):
        y = x.reshape(-1, np.prod(inputs)) @ kernel.reshape(np.prod(inputs), -1) + bias.reshape(-1)
        return y.reshape(*rows, *outputs)

    def ours(x, kernel, bias):
        return add_bias(product(x, kernel, len(inputs)), bias)

    return arrays, ours, flat


@pytest.mark.parametrize("shapes", LINEAR_MAPS)
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e-6])
def test_the_gradients_of_a_linear_map_in_float64(x64, shapes, scale):
    arrays, ours, flat = linear_map(*LINEAR_MAPS[shapes], jnp.float64, scale)
    alike(*both(ours, flat, *arrays), 1e-12)


@pytest.mark.parametrize("shapes", LINEAR_MAPS)
def test_the_gradients_of_a_linear_map_in_bfloat16_are_rounded_once(shapes):
    arrays, ours, flat = linear_map(*LINEAR_MAPS[shapes], jnp.bfloat16)
    y, pull = jax.vjp(ours, *arrays)
    exact, pull_exact = jax.vjp(flat, *(x.astype(jnp.float32) for x in arrays))
    direction = jax.random.normal(jax.random.key(9), y.shape, jnp.bfloat16)
    found = pull(direction)
    assert {one.dtype for one in (y, *found)} == {jnp.dtype(jnp.bfloat16)}
    wide = [one.astype(jnp.float32) for one in found]
    alike(wide, pull_exact(direction.astype(jnp.float32)), 2**-8)
    # A product, rounded, and its sum with the bias, rounded.
    alike([y.astype(jnp.float32)], [exact], 2**-7)


@pytest.mark.parametrize("devices, used", [(1, True), (2, False)])
def test_a_linear_layer_is_written_out_on_one_cpu(devices, used):
    mesh = jax.sharding.AbstractMesh((devices, 1, 1), ("data", "fsdp", "tensor"))
    layer = layers.Linear({"embed": 4}, {"mlp": 8}, rngs=nnx.Rngs(0))
    with sharding_context(mesh, DEFAULT_RULES):
        program = str(jax.make_jaxpr(layer)(jnp.ones((2, 3, 4))))
    # The product and the bias.
    assert program.count("custom_vjp_call") == (2 if used else 0)


@pytest.mark.parametrize("form", [gelu_tanh, short_gelu_tanh])
def test_the_gradient_of_gelu_in_float64(x64, form):
    x = jnp.concatenate([jnp.linspace(-12, 12, 401), jnp.array([0.0, 1e-6, -1e4, 1e4])])
    ours, theirs = both(form, plain_gelu, x.astype(jnp.float64))
    alike(ours, theirs, 1e-12)


@pytest.mark.parametrize("case", QUERIES)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads_first", [False, True])
def test_the_gradient_of_attention_in_float64(x64, case, causal, heads_first):
    arrays = queries(*QUERIES[case], jnp.float64)
    ours, theirs = both(
        lambda q, k, v: attention(q, k, v, causal, heads_first),
        lambda q, k, v: softmax_attention(q, k, v, causal),
        *arrays,
    )
    alike(ours[:1], theirs[:1], 1e-12)
    # Where one weight is 1, the gradients of q and k are 0: what is left is the rounding of a
    # difference that is then multiplied by keys or queries.
    largest = max(float(jnp.max(jnp.abs(one))) for one in (*theirs[1:], *arrays))
    for one, other in zip(ours[1:], theirs[1:], strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * largest)


@pytest.mark.parametrize("case", ["drawn", "one query", "constant rows", "weights all the same"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads_first", [False, True])
def test_attention_in_bfloat16_is_as_near_to_float32_as_the_plain_form(case, causal, heads_first):
    arrays = [x.astype(jnp.bfloat16) for x in queries(*QUERIES[case], jnp.float32)]
    wide = [x.astype(jnp.float32) for x in arrays]
    ours, theirs = both(
        lambda q, k, v: attention(q, k, v, causal, heads_first),
        lambda q, k, v: plain_attention(q, k, v, causal),
        *arrays,
    )
    # By the same pull, which is drawn in bfloat16.
    y, pull = jax.vjp(lambda q, k, v: softmax_attention(q, k, v, causal), *wide)
    direction = jax.random.normal(jax.random.key(9), y.shape, jnp.bfloat16).astype(jnp.float32)
    exact = (y, *pull(direction))
    largest = max(float(jnp.max(jnp.abs(one))) for one in exact)
    for one, plain, true in zip(ours, theirs, exact, strict=True):
        assert one.dtype == jnp.bfloat16
        error = float(jnp.max(jnp.abs(one.astype(jnp.float32) - true)))
        of_plain = float(jnp.max(jnp.abs(plain.astype(jnp.float32) - true)))
        assert error <= max(1.5 * of_plain, 2.0**-7 * largest)


@pytest.mark.parametrize(
    "devices, placed, used", [(1, True, True), (2, True, False), (1, False, False)]
)
def test_attention_is_written_out_where_it_is_placed_on_one_cpu(devices, placed, used):
    mesh = jax.sharding.AbstractMesh((devices, 1, 1), ("data", "fsdp", "tensor"))
    q = jnp.ones((2, 3, 1, 4))

    def traced():
        # Elsewhere, and in what is exported, the operations are those that were there before.
        return str(jax.make_jaxpr(attend)(q, q, q)), closed_form.may_round()

    if placed:
        with sharding_context(mesh, DEFAULT_RULES):
            program, found = traced()
    else:
        program, found = traced()
    assert found == used
    assert ("custom_vjp" in program) == used


@pytest.mark.parametrize("platform, written", [("tpu", True), ("gpu", False)])
def test_attention_is_written_out_for_tpus_of_a_mesh(platform, written, monkeypatch):
    device = types.SimpleNamespace(platform=platform)
    for module in (closed_form, rules):
        monkeypatch.setattr(module, "current_device", lambda: device)
    mesh = jax.sharding.AbstractMesh((2, 1, 1), ("data", "fsdp", "tensor"))
    with sharding_context(mesh, DEFAULT_RULES):
        assert closed_form.may_round() == written
    assert not closed_form.may_round()


@pytest.mark.parametrize("heads_first", [False, True])
def test_attention_is_the_same_under_jit_vmap_scan_remat_and_shard_map(heads_first):
    q, k, v = (
        jax.random.normal(key, (4, 2, 6, 3, 4)) for key in jax.random.split(jax.random.key(6), 3)
    )
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])

    def block(q, k, v):
        return attention(q, k, v, True, heads_first)

    def loss(of, *arrays):
        return jnp.sum(jnp.sin(of(*arrays)))

    def one_by_one(of):
        return lambda *arrays: jnp.stack([of(*one) for one in zip(*arrays, strict=True)])

    every = PartitionSpec("data")
    ways = {
        "jit": one_by_one(jax.jit(block)),
        "vmap": jax.vmap(block),
        "scan": lambda *arrays: jax.lax.scan(lambda c, one: (c, block(*one)), 0, arrays)[1],
        "remat": jax.vmap(jax.checkpoint(block)),
        "shard_map": one_by_one(
            jax.jit(jax.shard_map(block, mesh=mesh, in_specs=every, out_specs=every))
        ),
    }
    plain = one_by_one(lambda q, k, v: softmax_attention(q, k, v, True))
    expected = jax.grad(functools.partial(loss, plain), (0, 1, 2))(q, k, v)
    for name, way in ways.items():
        found = jax.grad(functools.partial(loss, way), (0, 1, 2))(q, k, v)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_values_are_those_of_the_plain_forms_in_other_dtypes(dtype):
    x = jax.random.normal(jax.random.key(3), (3, 5, 16)).astype(dtype)
    ours: Any = layer_norm(x, jnp.ones(16), None, True, 1e-6)
    assert ours.dtype == jnp.float32
    theirs = plain_norm(x.astype(jnp.float32), jnp.ones(16), None, True, 1e-6)
    np.testing.assert_array_equal(ours, theirs)
    for form in (gelu_tanh, short_gelu_tanh):
        np.testing.assert_array_equal(form(x), jax.nn.gelu(x, approximate=True))


def test_gelus_gradient_in_bfloat16_is_rounded_once():
    x = (4 * jax.random.normal(jax.random.key(5), (4096,))).astype(jnp.bfloat16)
    ours = jax.grad(lambda x: jnp.sum(short_gelu_tanh(x).astype(jnp.float32)))(x)
    assert ours.dtype == jnp.bfloat16
    exact = jax.grad(lambda x: jnp.sum(plain_gelu(x)))(x.astype(jnp.float32))
    np.testing.assert_allclose(ours.astype(jnp.float32), exact, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize(
    "platform, center, taken", [("tpu", True, True), ("tpu", False, False), ("gpu", True, False)]
)
def test_tpus_take_the_gradient_of_centred_norms_alone(platform, center, taken, monkeypatch):
    monkeypatch.setattr(layers, "current_platform", lambda: platform)
    monkeypatch.setattr(layers.closed_form, "is_used", lambda: False)
    norm = layers.LayerNorm("embed", 4, center=center)
    traced = str(jax.make_jaxpr(lambda x: norm(x))(jnp.ones((2, 4))))
    assert ("custom_vjp" in traced) == taken


@pytest.mark.parametrize("platform, taken", [("tpu", True), ("gpu", False)])
def test_tpus_alone_take_gelus_short_gradient(platform, taken, monkeypatch):
    monkeypatch.setattr(layers, "current_platform", lambda: platform)
    monkeypatch.setattr(layers.closed_form, "is_used", lambda: False)
    traced = str(jax.make_jaxpr(lambda x: layers.ACTIVATIONS["gelu_tanh"](x))(jnp.ones(3)))
    assert ("custom_vjp" in traced) == taken


def test_they_are_the_same_under_jit_vmap_scan_remat_and_shard_map():
    x = jax.random.normal(jax.random.key(4), (4, 2, 6, 4))
    kernels = jax.random.normal(jax.random.key(5), (2, 4, 7))
    bias = jnp.linspace(-1, 1, 7)

    def block(x, kernels, bias):
        normed = layer_norm(x, 1 + kernels[0, :, 0], kernels[1, :, 0], True, 1e-6)
        hidden = gelu_tanh(add_bias(product(normed, kernels[0], 1), bias))
        return product(hidden, kernels[1].T, 1)

    def one_by_one(of):
        return lambda x, *others: jnp.stack([of(one, *others) for one in x])

    def scanned(x, *others):
        return jax.lax.scan(lambda c, one: (c, block(one, *others)), 0, x)[1]

    def gradients(of):
        return jax.grad(lambda *arrays: jnp.sum(jnp.sin(of(*arrays))), (0, 1, 2))(x, kernels, bias)

    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    every, whole = PartitionSpec("data"), PartitionSpec()
    specs = (every, whole, whole)
    sharded = jax.shard_map(block, mesh=mesh, in_specs=specs, out_specs=every, check_vma=False)
    each = (0, None, None)
    ways = {
        "jit": one_by_one(jax.jit(block)),
        "vmap": jax.vmap(block, each),
        "scan": scanned,
        "remat": jax.vmap(jax.checkpoint(block), each),
        "shard_map": jax.jit(sharded),
    }
    expected = gradients(one_by_one(block))
    for name, way in ways.items():
        for one, other in zip(gradients(way), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("causal", [False, True])
def test_a_forward_pass_alone_is_that_of_the_gradients_form(x64, causal):
    arrays = queries(1.0, 7, 7, jnp.float64)

    def ours(q, k, v):
        return forward_attention(q, k, v, causal)

    def theirs(q, k, v):
        return plain_attention(q, k, v, causal)

    np.testing.assert_array_equal(ours(*arrays), attention(*arrays, causal, False))
    found, expected = both(ours, theirs, *arrays)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
