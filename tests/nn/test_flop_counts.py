"""Counting from the trace, on functions whose cost is known by hand."""

import jax
import jax.numpy as jnp
import pytest

from distill.nn import Flops, TextConfig, TextNetwork, TextTransformer, count_flops, encoder_flops


def shape(*dims):
    return jax.ShapeDtypeStruct(dims, jnp.float32)


def test_multiply_add_counts_as_two():
    assert count_flops(jnp.matmul, shape(3, 5), shape(5, 7)) == Flops(2 * 3 * 5 * 7, 0)


def test_batched_products_count_each_of_the_batch():
    product = lambda q, k: jnp.einsum("bthd,bshd->bhts", q, k)  # noqa: E731
    assert count_flops(product, shape(2, 6, 3, 4), shape(2, 5, 3, 4)).matrix == (
        2 * (2 * 3 * 6 * 5 * 4)
    )


def test_convolution_counts_its_window():
    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    counted = count_flops(convolve, shape(2, 8, 12, 3), shape(4, 4, 3, 16))
    assert counted == Flops(2 * (2 * 2 * 3 * 16) * (4 * 4 * 3), 0)


@pytest.mark.parametrize("unroll", [1, 9])
def test_scan_counts_every_iteration(unroll):
    def repeat(x, kernels):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, kernels, unroll=unroll)[0]

    assert count_flops(repeat, shape(3, 5), shape(9, 5, 5)) == Flops(9 * 2 * 3 * 5 * 5, 9 * 3 * 5)


def test_what_is_inside_jit_and_checkpoint_counts():
    layer = lambda x, w: jnp.sin(x @ w)  # noqa: E731
    expected = Flops(2 * 3 * 5 * 7, 3 * 7)
    assert count_flops(jax.jit(layer), shape(3, 5), shape(5, 7)) == expected
    assert count_flops(jax.checkpoint(layer), shape(3, 5), shape(5, 7)) == expected


def test_elementwise_operations_count_outputs_and_reductions_inputs():
    assert count_flops(lambda x: jnp.exp(x) + 1.0, shape(3, 5)) == Flops(0, 2 * 15)
    assert count_flops(
        lambda x: jax.lax.reduce_sum_p.bind(x, axes=(0,), out_sharding=None), shape(3, 5)
    ) == Flops(0, 15)


def test_moving_data_is_free():
    def move(x):
        return jnp.concatenate([x.T.reshape(-1), jnp.zeros(3)]).astype(jnp.bfloat16)[2:]

    assert count_flops(move, shape(3, 5)) == Flops(0, 0)


def test_backward_pass_of_a_product_costs_twice_the_forward_pass():
    loss = lambda x, w: jnp.sum(x @ w)  # noqa: E731
    gradient = jax.value_and_grad(loss, argnums=(0, 1))
    assert count_flops(gradient, shape(3, 5), shape(5, 7)).matrix == 3 * 2 * 3 * 5 * 7


@pytest.mark.parametrize("causal", [False, True])
def test_the_encoder_of_a_text_tower_is_counted_by_its_formula(causal):
    config = TextConfig(
        vocab=9, length=7, width=24, depth=3, mlp_dim=40, heads=3, causal=causal, attention="plain"
    )
    network = TextNetwork(config, TextTransformer)
    ids = jax.ShapeDtypeStruct((1, 7), jnp.int32)
    # Without a head, all products are the encoder's.
    assert count_flops(network.apply, network.abstract_params, ids).matrix == encoder_flops(config)
