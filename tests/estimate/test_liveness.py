"""What a trace keeps and multiplies, of programs small enough to be followed by hand."""

import jax
import jax.numpy as jnp
import pytest

from distill.estimate.liveness import array_bytes, peak_bytes, products

X = jax.ShapeDtypeStruct((8, 4), jnp.float32)
W = jax.ShapeDtypeStruct((4, 4), jnp.float32)
STACK = jax.ShapeDtypeStruct((5, 4, 4), jnp.float32)
ROWS, SQUARE = 8 * 4 * 4, 4 * 4 * 4


def peak(function, *arrays):
    return peak_bytes(jax.make_jaxpr(function)(*arrays).jaxpr, array_bytes)


def test_what_nobody_reads_any_more_is_gone():
    # Two at a time of a chain of three.
    assert peak(lambda x: jnp.sin(jnp.cos(jnp.tan(x))), X) == 2 * ROWS


def test_what_is_read_again_stays():
    def function(x):
        y = jnp.cos(x)
        return y * jnp.sin(jnp.tan(y))

    # y, its tangent and the sine of that.
    assert peak(function, X) == 3 * ROWS


def test_arguments_are_not_counted():
    assert peak(lambda x: x, X) == 0


def test_a_scan_stacks_its_results_and_has_a_slice_of_what_it_walks_along():
    def step(x, w):
        return x, w @ w

    found = peak(lambda x, w: jax.lax.scan(step, x, w)[1], X, STACK)
    # The stack of results, a slice and its square; and one int for nothing else.
    assert found == pytest.approx(5 * SQUARE + 2 * SQUARE)


def test_residuals_of_a_scan_are_kept_for_its_backward_pass():
    def loss(w, x):
        return jnp.sum(jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0])

    def remat(w, x):
        step = jax.checkpoint(lambda x, w: (jnp.tanh(x @ w), None))
        return jnp.sum(jax.lax.scan(step, x, w)[0])

    kept, again = (peak(jax.grad(f), STACK, X) for f in (loss, remat))
    # Of each of five layers, its input; and what its tanh was, unless that is found again.
    assert again + 5 * ROWS <= kept


def test_products_in_a_scan_count_as_often_as_it_runs():
    def function(x, w):
        return jax.lax.scan(lambda x, w: (x @ w, None), x, w)[0]

    (found,) = products(jax.make_jaxpr(function)(X, STACK).jaxpr)
    assert found == (5, 2 * 8 * 4 * 4, 2 * ROWS + SQUARE, "float32")


def test_products_of_int8_are_told_apart():
    def function(x):
        return jax.lax.dot(x, x.T, preferred_element_type=jnp.int32)

    (found,) = products(jax.make_jaxpr(function)(jax.ShapeDtypeStruct((2, 4), jnp.int8)).jaxpr)
    assert found == (1, 2 * 2 * 2 * 4, 8 + 8 + 2 * 2 * 4, "int8")
