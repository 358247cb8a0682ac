"""Scan, unrolled code, recomputation and dtype: other ways to run the same function."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from distill.nn import count_flops
from distill.nn.encoder import SequentialBlock, make_norm
from students import vit
from teachers import vit_22b

SHAPE = dict(
    width=16,
    depth=2,
    mlp_dim=24,
    heads=2,
    patch_size=4,
    image_size=(8, 12),
    num_classes=3,
    head="gap",
)
BUILDERS = {"sequential": vit, "parallel": vit_22b}
BLOCKS = {"sequential": SequentialBlock, "parallel": vit_22b.ParallelBlock}


def build(kind, **choices):
    module = BUILDERS[kind]
    variant = "S/4" if kind == "sequential" else "22B/4"
    return module.build(module.configure(variant, **(SHAPE | choices)))


def random_params(network):
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.3 * rng.standard_normal(leaf.shape), jnp.float32),
        network.abstract_params,
    )


def random_images(network, batch=2):
    shape = (batch, *network.config.image_shape)
    return jnp.asarray(np.random.default_rng(1).uniform(-1, 1, shape), jnp.float32)


def loss(network):
    return lambda params, images: jnp.sum(network.apply(params, images).logits ** 2)


def compiled(function):
    """Compiling takes nearly all the time of these tests, and less without optimisation."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


@functools.cache
def value_and_grad(kind, **choices):
    network = build(kind, **choices)
    params, images = random_params(network), random_images(network)
    return compiled(jax.value_and_grad(loss(network)))(params, images)


def assert_trees_close(actual, expected, tolerance=1e-5):
    """Leaf by leaf, relative to its scale; some, such as a key's bias, have no gradient at all."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    largest = max(np.abs(e).max() for e in jax.tree.leaves(expected))
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        scale = max(np.abs(e).max(), 1e-3 * largest)
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("kind", BUILDERS)
def test_scanned_equals_unrolled(kind):
    assert_trees_close(value_and_grad(kind, unroll=True), value_and_grad(kind))


@pytest.mark.parametrize("kind", BUILDERS)
def test_stacked_blocks_equal_blocks_run_one_by_one(kind):
    network = build(kind, num_classes=0)
    params, images = random_params(network), random_images(network)
    tokens = compiled(network.apply)(params, images).tokens

    patches = jax.lax.conv_general_dilated(
        images,
        params["patch_embed"]["linear"]["kernel"],
        window_strides=(4, 4),
        padding="VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    x = patches + params["patch_embed"]["linear"]["bias"] + params["position"]["table"]
    x = x.reshape(2, 6, 16)
    block = as_function(lambda: BLOCKS[kind](network.config, rngs=nnx.Rngs(params=0)))
    for layer in range(2):
        x = block(jax.tree.map(lambda a, i=layer: a[i], params["encoder"]["blocks"]), x)
    x = as_function(lambda: make_norm(network.config))(params["encoder"]["norm"], x)
    np.testing.assert_allclose(x, tokens, rtol=0, atol=1e-5 * np.abs(tokens).max())


def as_function(create):
    """The module that `create` returns, as a jitted function of its parameters and input."""
    graphdef, _ = nnx.split(nnx.eval_shape(create))
    return compiled(lambda params, x: nnx.merge(graphdef, params)(x))


@pytest.mark.parametrize(
    ("remat", "unroll"),
    [
        ("full", False),
        ("dots", False),
        ("offload", False),
        ("full", True),
        ("dots", True),
        ("offload", True),
    ],
)
def test_recomputation_leaves_gradients_as_they_are(remat, unroll):
    recomputed = value_and_grad("sequential", remat=remat, unroll=unroll)
    assert_trees_close(recomputed, value_and_grad("sequential"))


def test_recomputation_trades_products_for_memory():
    """`full` computes every product of a block again, `dots` only those of attention."""
    products = {}
    for remat in ("none", "full", "dots"):
        network = build("sequential", remat=remat)
        args = network.abstract_params, jax.ShapeDtypeStruct((2, 8, 12, 3), jnp.float32)
        products[remat] = count_flops(jax.grad(loss(network)), *args).matrix
    tokens, depth, batch = 6, 2, 2
    attention = depth * batch * 2 * (2 * tokens * tokens * 16)
    linear = depth * batch * tokens * 2 * (4 * 16 * 16 + 2 * 16 * 24)
    assert products["dots"] - products["none"] <= attention
    assert products["dots"] > products["none"]
    assert products["full"] - products["none"] > 0.5 * linear
    assert products["full"] - products["none"] <= linear + attention


@pytest.mark.parametrize(
    "keep, saved",
    [
        (("query",), 2 * 16 * 16),
        (("middle",), 2 * 16 * 16),
        # Weights times values: 16 features of each of 6 tokens.
        (("attended",), 2 * 6 * 16),
        (("hidden",), 2 * 16 * 24),
        (("attended", "middle"), 2 * 6 * 16 + 2 * 16 * 16),
    ],
)
@pytest.mark.parametrize("remat", ["full", "offload"])
def test_what_is_kept_is_not_computed_again(remat, keep, saved):
    def products(**choices):
        network = build("sequential", **choices)
        args = network.abstract_params, jax.ShapeDtypeStruct((2, 8, 12, 3), jnp.float32)
        return count_flops(jax.grad(loss(network)), *args).matrix

    tokens, depth, batch = 6, 2, 2
    found = products(remat="full") - products(remat=remat, remat_keep=keep)
    assert found == depth * batch * tokens * saved


def test_parallel_blocks_have_nothing_between_attention_and_mlp():
    with pytest.raises(ValueError, match="nothing between attention and MLP"):
        build("parallel", remat="full", remat_keep=("middle",))


def test_names_that_are_kept_on_the_host_leave_everything_else_to_be_computed_again():
    network = build("parallel", remat="offload", remat_keep=("query",))
    args = network.abstract_params, jax.ShapeDtypeStruct((2, 8, 12, 3), jnp.float32)
    text = str(jax.make_jaxpr(jax.grad(loss(network)))(*args))
    # Of each layer the queries of 2 images with 6 tokens, on 2 heads of 8.
    assert set(re.findall(r"f32<host>\[([\d,]+)\]", text)) == {"2,6,2,8", "2,2,6,2,8"}
    assert "<host>" in text


def test_offloaded_products_go_to_the_memory_of_the_host():
    """In the traced program: on the CPU, which is its own host, there is nothing to measure."""
    network = build("sequential", remat="offload")
    args = network.abstract_params, jax.ShapeDtypeStruct((2, 8, 12, 3), jnp.float32)
    kept = str(jax.make_jaxpr(jax.grad(loss(network)))(*args))
    assert "<host>" in kept
    network = build("sequential", remat="dots")
    assert "<host>" not in str(jax.make_jaxpr(jax.grad(loss(network)))(*args))


@pytest.mark.parametrize("kind", BUILDERS)
def test_bfloat16_computes_activations_but_keeps_parameters_and_logits_in_float32(kind):
    exact, network = build(kind, head="map"), build(kind, head="map", dtype="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(network.abstract_params)} == {
        jnp.dtype("float32")
    }
    params, images = random_params(network), random_images(network)
    output, expected = (compiled(n.apply)(params, images) for n in (network, exact))
    assert output.logits.dtype == jnp.float32
    assert output.embedding.dtype == output.tokens.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        output.logits, expected.logits, rtol=0, atol=0.05 * np.abs(expected.logits).max()
    )
    gradients = jax.eval_shape(jax.grad(loss(network)), params, images)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype("float32")}


def test_bfloat16_runs_every_product_of_the_encoder_in_bfloat16():
    """A forgotten cast would silently run the giant products in float32."""
    network = build("parallel", dtype="bfloat16", num_classes=0, head="map")
    images = jax.ShapeDtypeStruct((2, 8, 12, 3), jnp.float32)
    jaxpr = jax.make_jaxpr(lambda p, x: network.apply(p, x).tokens)(network.abstract_params, images)
    inputs = {str(v.aval.dtype) for eqn in products_in(jaxpr.jaxpr) for v in eqn.invars}
    assert inputs == {"bfloat16"}


def products_in(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from products_in(inner)


def test_model_without_classifier_has_empty_logits():
    network = build("sequential", num_classes=0)
    images = jax.ShapeDtypeStruct((2, 8, 12, 3), jnp.float32)
    output = jax.eval_shape(network.apply, network.abstract_params, images)
    assert "classifier" not in network.abstract_params
    assert output.logits.shape == (2, 0)
    assert output.embedding.shape == (2, 16)
