"""Sizes of images and grids: what is refused, and what is interpolated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from distill.nn.embeddings import PositionEmbedding, patch_grid, resize_grid
from distill.nn.preprocess import prepare_images
from students import vit
from teachers import vit_22b

TINY = dict(width=16, depth=1, mlp_dim=24, heads=2, num_classes=3, head="gap")


BICUBIC = Image.Resampling.BICUBIC


def pil_resize(array, size, method=Image.Resampling.BILINEAR):
    """By Pillow, antialiased when shrinking, of each channel of [height, width, C]."""
    channels = [
        np.asarray(Image.fromarray(c).resize(size[::-1], method))
        for c in np.moveaxis(np.asarray(array, np.float32), -1, 0)
    ]
    return np.stack(channels, -1)


def random_params(network):
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: (0.3 * rng.standard_normal(leaf.shape)).astype(np.float32),
        network.abstract_params,
    )


def test_indivisible_image_size_names_both_and_suggests_sizes():
    with pytest.raises(ValueError) as error:
        vit.configure("B/16", image_size=225)
    message = str(error.value)
    assert "225" in message
    assert "16" in message
    assert "224" in message
    assert "240" in message


def test_only_the_wrong_side_of_a_rectangle_is_corrected():
    with pytest.raises(ValueError, match=r"use 32×96 or 32×112"):
        vit.configure("B/16", image_size=(32, 100))


def test_image_smaller_than_a_patch_is_refused():
    with pytest.raises(ValueError, match="14") as error:
        vit_22b.configure("22B/14", image_size=8)
    assert "14×14" in str(error.value)


@pytest.mark.parametrize(
    "shape", [(2, 8, 8, 1), (2, 8, 8, 4), (8, 8, 3), (1, 2, 8, 8, 3), (2, 3, 8, 8)]
)
def test_images_of_another_channel_count_or_rank_are_refused(shape):
    network = vit.build(vit.configure("S/4", image_size=8, **TINY))
    with pytest.raises(ValueError, match=r"expected \[batch, height, width, 3\]"):
        jax.eval_shape(
            network.apply, network.abstract_params, jax.ShapeDtypeStruct(shape, jnp.float32)
        )


def test_indivisible_images_are_refused_at_call_time_too():
    network = vit.build(vit.configure("S/4", image_size=8, **TINY))
    images = jax.ShapeDtypeStruct((1, 8, 10, 3), jnp.float32)
    with pytest.raises(ValueError, match="8×10 is not divisible by patch size 4"):
        jax.eval_shape(network.apply, network.abstract_params, images)


def test_an_image_of_no_pixels_is_no_image():
    with pytest.raises(ValueError, match=r"0×0 is not divisible by patch size 8; use 8×8, or"):
        patch_grid((0, 0), 8)


@pytest.mark.parametrize("variant", ["Q/16", "B", "B16", "b/16", "B/16/2", "B/", "", "G/14"])
def test_unknown_student_is_refused_with_the_known_ones(variant):
    with pytest.raises(ValueError, match="unknown variant") as error:
        vit.configure(variant)
    assert repr(variant) in str(error.value)
    assert "So400m" in str(error.value)


def test_patch_of_no_pixels_is_refused():
    with pytest.raises(ValueError, match="patch_size"):
        vit.configure("B/0")


def test_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="width 768 is not divisible by heads 7"):
        vit.configure("B/16", heads=7)


def test_sincos2d_needs_a_width_divisible_by_four():
    with pytest.raises(ValueError, match="divisible by 4, not 18"):
        vit.configure("S/16", width=18, heads=2, position_embedding="sincos2d")


@pytest.mark.parametrize("name", ["width", "depth", "mlp_dim", "heads", "channels"])
def test_empty_dimensions_are_refused(name):
    with pytest.raises(ValueError, match=name):
        vit.configure("B/16", **{name: 0})


@pytest.mark.parametrize("grid", [(6, 10), (2, 3), (5, 3), (3, 5)])
def test_position_embedding_is_interpolated_bicubically(grid):
    table = np.random.default_rng(0).standard_normal((3, 5, 7)).astype(np.float32)
    resized = resize_grid(jnp.asarray(table), grid)
    np.testing.assert_allclose(resized, pil_resize(table, grid, BICUBIC), rtol=0, atol=1e-5)


def test_other_image_sizes_interpolate_the_position_embedding():
    """Against a model built for that size and given the table as Pillow resizes it."""
    grid = (2, 7)
    network = vit.build(vit.configure("S/4", image_size=(12, 20), **TINY))
    other = vit.build(vit.configure("S/4", image_size=(8, 28), **TINY))
    params = random_params(network)
    images = (
        np.random.default_rng(1).uniform(-1, 1, (1, *other.config.image_shape)).astype(np.float32)
    )
    table = pil_resize(params["position"]["table"], grid, BICUBIC)
    actual = jax.jit(network.apply)(params, images)
    expected = jax.jit(other.apply)(params | {"position": {"table": table}}, images)
    np.testing.assert_allclose(actual.tokens, expected.tokens, rtol=0, atol=1e-4)
    np.testing.assert_allclose(actual.logits, expected.logits, rtol=0, atol=1e-4)


def test_fixed_positions_are_computed_for_whatever_size_comes():
    position = PositionEmbedding("sincos2d", (3, 5), 8, rngs=nnx.Rngs(params=0))
    assert not jax.tree.leaves(nnx.state(position, nnx.Param))
    table = position(jnp.zeros((1, 2, 7, 8)))[0]
    for y, x in np.ndindex(2, 7):
        expected = [
            f(at * omega) for at in (x, y) for f in (np.sin, np.cos) for omega in (1.0, 1e-4)
        ]
        np.testing.assert_allclose(table[y, x], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("source", "size"), [(12, (6, 4)), (6, (9, 12)), (8, (8, 8))])
def test_views_are_resized_and_scaled_to_plus_minus_one(source, size, dtype):
    rng = np.random.default_rng(0)
    views = rng.integers(0, 256, (2, source, source, 3)).astype(dtype)
    prepared = prepare_images(jnp.asarray(views), size)
    expected = np.stack([pil_resize(view, size) for view in views]) / 127.5 - 1
    assert prepared.dtype == jnp.float32
    np.testing.assert_allclose(prepared, expected, rtol=0, atol=1e-5)


def test_black_is_minus_one_and_white_is_plus_one():
    views = jnp.array([0, 255], jnp.uint8).reshape(2, 1, 1, 1)
    np.testing.assert_array_equal(prepare_images(views, (1, 1)).ravel(), [-1.0, 1.0])
