"""CutMix, and the choice between it and mixup."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from support import run_script

from distill.mixing import cutmix, mix, mix_labels, mixup

HEIGHT, WIDTH = 24, 40

# As a training step has them, and in a tenth of the time of single operations.
compiled_cutmix = jax.jit(cutmix, static_argnames=("alpha", "per_example"))
compiled_mix = jax.jit(mix, static_argnames=("mixup", "cutmix", "per_example"))


def numbered(batch):
    """Images that show nothing but their number."""
    return jnp.broadcast_to(jnp.arange(batch)[:, None, None, None], (batch, HEIGHT, WIDTH, 1))


def pasted(mixed):
    """Which pixels are the partner's, [B, HEIGHT, WIDTH]; every other one is the image's own."""
    images = np.asarray(mixed.images)[..., 0]
    own = np.arange(len(images))[:, None, None]
    partner = (own - 1) % len(images)
    assert np.all((images == own) | (images == partner))
    return images == partner


def sides(mask):
    """(top, bottom, left, right) of the box that `mask` is; zeros if it is empty."""
    if not mask.any():
        return 0, 0, 0, 0
    (rows,), (columns,) = np.nonzero(mask.any(axis=1)), np.nonzero(mask.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    assert mask.sum() == (bottom - top) * (right - left)
    return top, bottom, left, right


def rand_bbox(rng, alpha):
    """Transcribed from the reference implementation of arXiv 1905.04899."""
    cut_rat = np.sqrt(1.0 - rng.beta(alpha, alpha))
    cut_h, cut_w = int(HEIGHT * cut_rat), int(WIDTH * cut_rat)
    cy, cx = rng.integers(HEIGHT), rng.integers(WIDTH)
    top, bottom = np.clip([cy - cut_h // 2, cy + cut_h // 2], 0, HEIGHT)
    left, right = np.clip([cx - cut_w // 2, cx + cut_w // 2], 0, WIDTH)
    return (top, bottom, left, right) if (bottom - top) * (right - left) else (0, 0, 0, 0)


@pytest.mark.parametrize("per_example", [False, True])
def test_a_box_of_the_one_before_is_pasted_and_the_weight_is_what_is_left(per_example):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, HEIGHT, WIDTH, 3)).astype(np.uint8)
    different = set()
    for seed in range(10):
        key = jax.random.key(seed)
        boxes = [
            sides(mask)
            for mask in pasted(compiled_cutmix(key, numbered(6), 1.0, per_example=per_example))
        ]
        mixed = compiled_cutmix(key, jnp.asarray(images), 1.0, per_example=per_example)
        assert mixed.images.dtype == mixed.weights.dtype == jnp.float32
        for i, (top, bottom, left, right) in enumerate(boxes):
            expected = images[i].copy()
            expected[top:bottom, left:right] = images[i - 1, top:bottom, left:right]
            np.testing.assert_array_equal(mixed.images[i], expected)
            share = 1 - (bottom - top) * (right - left) / (HEIGHT * WIDTH)
            np.testing.assert_allclose(mixed.weights[i], share, rtol=0, atol=1e-6)
        different.add(len(set(boxes)))
    assert max(different) == (6 if per_example else 1)


def test_boxes_have_the_distribution_of_the_reference_implementation():
    alpha, count, rng = 0.5, 1800, np.random.default_rng(0)
    found = np.array(
        [
            sides(mask)
            for key in jax.random.split(jax.random.key(1), count // 6)
            for mask in pasted(compiled_cutmix(key, numbered(6), alpha, per_example=True))
        ]
    )
    expected = np.array([rand_bbox(rng, alpha) for _ in range(count)])

    def measures(boxes):
        top, bottom, left, right = boxes.T
        area = (bottom - top) * (right - left)
        return *boxes.T, bottom - top, right - left, area, top + bottom + left + right

    for one, other in zip(measures(found), measures(expected), strict=True):
        assert scipy.stats.ks_2samp(one, other).pvalue > 1e-3


def test_labels_are_mixed_by_the_shares_of_pixels():
    """The mean over the pixels of images that are their own one-hot labels."""
    labels = np.array([2, 0, 3, 3, 1, 0])
    images = np.broadcast_to(np.eye(4)[labels][:, None, None], (6, HEIGHT, WIDTH, 4))
    mixed = cutmix(jax.random.key(3), jnp.asarray(images), 1.0, per_example=True)
    targets = mix_labels(jnp.asarray(labels), mixed.weights, 4)
    np.testing.assert_allclose(targets, mixed.images.mean(axis=(1, 2)), atol=1e-5)
    assert 0 < float(mixed.weights.min()) < 1


def test_both_off_leaves_images_as_they_are():
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3)).astype(np.uint8)
    for mixed in (
        cutmix(jax.random.key(0), jnp.asarray(images), 0.0),
        mix(jax.random.key(0), jnp.asarray(images), mixup=0.0, cutmix=0.0),
    ):
        np.testing.assert_array_equal(mixed.images, images)
        np.testing.assert_array_equal(mixed.weights, np.ones(5))


@pytest.mark.parametrize("per_example", [False, True])
def test_mixup_alone_is_mixup_bit_for_bit(per_example):
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (6, 4, 6, 3)), jnp.uint8)
    key = jax.random.key(3)
    drawn = jax.random.beta(key, 0.7, 0.7, (6 if per_example else 1,))
    weights = jnp.broadcast_to(jnp.maximum(drawn, 1.0 - drawn), (6,))
    w, pixels = weights[:, None, None, None], images.astype(jnp.float32)
    expected = w * pixels + (1.0 - w) * jnp.roll(pixels, 1, axis=0)
    for mixed in (
        mix(key, images, mixup=0.7, cutmix=0.0, per_example=per_example),
        mixup(key, images, 0.7, per_example=per_example),
    ):
        np.testing.assert_array_equal(mixed.images, expected)
        np.testing.assert_array_equal(mixed.weights, weights)


def test_of_both_each_batch_gets_one_with_equal_chance():
    batches = [
        compiled_mix(key, numbered(6), mixup=1.0, cutmix=1.0, per_example=True)
        for key in jax.random.split(jax.random.key(0), 100)
    ]
    own = np.arange(6)[:, None, None]
    partner = (own - 1) % 6
    by_cutmix = []
    for mixed in batches:
        images, weights = np.asarray(mixed.images)[..., 0], np.asarray(mixed.weights)
        by_cutmix.append(bool(np.all((images == own) | (images == partner))))
        if not by_cutmix[-1]:
            w = weights[:, None, None]
            expected = np.broadcast_to(w * own + (1 - w) * partner, images.shape)
            np.testing.assert_allclose(images, expected, rtol=0, atol=1e-4)
            assert weights.min() >= 0.5
    # 50 ± 4 standard deviations.
    assert 30 < sum(by_cutmix) < 70


SHARDED = """
import functools, json
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from distill.mixing import (mix)
from distill.parallel import MeshConfig, make_mesh

mesh = make_mesh(MeshConfig(data=4))
images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (8, 6, 10, 3)), jnp.uint8)
placed = jax.device_put(images, NamedSharding(mesh, P("data")))
found = []
f = functools.partial(mix, mixup=1.0, cutmix=1.0, per_example=True)
compiled = jax.jit(f).lower(jax.random.key(0), placed).compile()
for seed in range(8):
    mixed, alone = compiled(jax.random.key(seed), placed), f(jax.random.key(seed), images)
    found.append([
        bool(np.allclose(mixed.images, alone.images, rtol=0, atol=1e-3)),
        bool(np.allclose(mixed.weights, alone.weights, rtol=0, atol=1e-6)),
        mixed.images.sharding.is_equivalent_to(placed.sharding, 4),
    ])
print(json.dumps([found, "[8,6,10,3]" in compiled.as_text()]))
"""


@pytest.mark.slow
def test_a_batch_cut_over_devices_is_mixed_where_it_lies():
    found, gathered = run_script(
        SHARDED, XLA_FLAGS=f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4"
    )
    assert found == [[True] * 3] * 8 and not gathered
