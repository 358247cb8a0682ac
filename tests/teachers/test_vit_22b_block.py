"""The parallel block of ViT-22B (arXiv 2302.05442, §2.1)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from distill.nn import count_flops
from teachers import vit_22b
from teachers.vit_22b import ParallelBlock

SHAPE = dict(width=24, depth=2, mlp_dim=40, heads=3, image_size=8, num_classes=5)
WEIGHTS = {"query", "key", "value", "attention_out", "mlp_in", "mlp_out"}


def configure(**choices):
    return vit_22b.configure("22B/4", **(SHAPE | choices))


def random_like(tree, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.3 * rng.standard_normal(leaf.shape), jnp.float32), tree
    )


def compiled(function):
    """Compiling takes nearly all the time of these tests, and less without optimisation."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def block_function(config):
    """(function of (params, tokens), random params) of one block."""
    graphdef, state = nnx.split(nnx.eval_shape(lambda: ParallelBlock(config, rngs=nnx.Rngs(0))))
    params = random_like(nnx.to_pure_dict(state))
    return jax.jit(lambda params, x: nnx.merge(graphdef, params)(x)), params


def leaf_names(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree.leaves_with_path(tree)
    }


@pytest.mark.parametrize("options", [{}, {"qkv_bias": True}])
def test_fused_equals_separate_products(options):
    separate, params = block_function(configure(**options))
    fused, same_shapes = block_function(configure(fused=True, **options))
    assert jax.tree.map(jnp.shape, same_shapes) == jax.tree.map(jnp.shape, params)
    x = random_like(jax.ShapeDtypeStruct((2, 7, 24), jnp.float32), seed=1)
    weights = random_like(x, seed=2)

    def value_and_grad(block):
        loss = lambda params, x: jnp.sum(weights * block(params, x))  # noqa: E731
        return compiled(jax.value_and_grad(loss, argnums=(0, 1)))(params, x)

    np.testing.assert_allclose(fused(params, x), separate(params, x), rtol=0, atol=1e-5)
    actual, expected = value_and_grad(fused), value_and_grad(separate)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert np.abs(e).max() > 0
        np.testing.assert_allclose(a, e, rtol=0, atol=1e-5 * np.abs(e).max())


def test_fused_model_equals_separate_model():
    separate, fused = vit_22b.build(configure()), vit_22b.build(configure(fused=True))
    params = random_like(separate.abstract_params)
    images = random_like(jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32), seed=1)
    expected = compiled(separate.apply)(params, images).logits
    actual = compiled(fused.apply)(params, images).logits
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_fused_block_makes_two_projections_of_six():
    def linear_products(config):
        block, params = block_function(config)
        x = jax.ShapeDtypeStruct((2, 7, 24), jnp.float32)
        jaxpr = str(jax.make_jaxpr(block)(params, x))
        return jaxpr.count("dot_general[") - 2  # softmax's two

    assert linear_products(configure()) == 6
    assert linear_products(configure(fused=True)) == 2


def test_both_layouts_cost_the_same_products():
    x = jax.ShapeDtypeStruct((2, 7, 24), jnp.float32)
    costs = [
        count_flops(block, params, x).matrix
        for block, params in (block_function(configure(fused=fused)) for fused in (False, True))
    ]
    projections = 2 * 2 * 7 * (4 * 24 * 24 + 2 * 24 * 40)
    attention = 2 * 2 * (2 * 7 * 7 * 24)
    assert costs == [projections + attention] * 2


def test_block_has_exactly_the_parameters_of_the_paper():
    """Kernels, one norm, QK norms and the two MLP biases: no other bias anywhere."""
    _, params = block_function(configure())
    assert leaf_names(params) == (
        {f"{name}/kernel" for name in WEIGHTS}
        | {"mlp_in/bias", "mlp_out/bias"}
        | {"norm/scale", "qk_norm/query/scale", "qk_norm/key/scale"}
    )


def test_no_norm_of_the_model_has_a_bias():
    names = leaf_names(vit_22b.build(configure()).abstract_params)
    norms = {name for name in names if "norm" in name}
    assert {name.rsplit("/", 1)[1] for name in norms} == {"scale"}
    assert "encoder/norm/scale" in norms
    assert "head/norm/scale" in norms


def test_qk_norm_is_shared_across_heads():
    _, params = block_function(configure())
    assert params["qk_norm"]["query"]["scale"].shape == (24 // 3,)
    assert params["qk_norm"]["key"]["scale"].shape == (24 // 3,)


def test_norm_does_not_centre():
    """A centring norm would not see a constant shift of its input."""
    block, params = block_function(configure())
    x = random_like(jax.ShapeDtypeStruct((1, 4, 24), jnp.float32), seed=1)
    branches = lambda x: block(params, x) - x  # noqa: E731
    assert np.abs(branches(x + 3.0) - branches(x)).max() > 0.1
    centred = vit_22b.configure("22B/4", **SHAPE, norm_center=True)
    block, _ = block_function(centred)
    np.testing.assert_allclose(branches(x + 3.0), branches(x), atol=1e-4)


def test_qk_norm_keeps_attention_from_growing_with_its_kernels():
    """What QK norm is for: scaled queries and keys leave the block as it is."""

    def grow(params):
        return params | {
            name: {"kernel": 1e3 * params[name]["kernel"]} for name in ("query", "key")
        }

    x = random_like(jax.ShapeDtypeStruct((1, 6, 24), jnp.float32), seed=1)
    block, params = block_function(configure())
    np.testing.assert_allclose(block(grow(params), x), block(params, x), atol=1e-4)
    block, params = block_function(configure(qk_norm=False))
    assert "qk_norm" not in params
    assert np.abs(block(grow(params), x) - block(params, x)).max() > 0.1


def test_branches_run_side_by_side():
    """Without its MLP the block is attention alone, and the other way round: they add up."""
    block, params = block_function(configure())
    x = random_like(jax.ShapeDtypeStruct((1, 6, 24), jnp.float32), seed=1)

    def without(*names):
        return params | {name: jax.tree.map(jnp.zeros_like, params[name]) for name in names}

    attention = block(without("mlp_out"), x) - x
    mlp = block(without("attention_out"), x) - x
    np.testing.assert_allclose(block(params, x), x + attention + mlp, rtol=0, atol=1e-5)


def test_sequential_layout_keeps_the_other_choices():
    """`parallel=False` is the comparison: one block after the other, still with QK norm."""
    network = vit_22b.build(configure(parallel=False))
    blocks = network.abstract_params["encoder"]["blocks"]
    assert {"attention_norm", "mlp_norm"} <= set(blocks)
    assert "bias" not in blocks["attention"]["query"]
    assert "qk_norm" in blocks["attention"]
    assert not any("norm" in n and n.endswith("bias") for n in leaf_names(network.abstract_params))
