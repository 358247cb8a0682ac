"""Training heads: losses and gradients beside transcriptions in float64, and torch's layers."""

import dense_images
import headed
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from support import REPOSITORY, run_script

from distill.errors import UserError
from distill.nn.dense import DepthScale
from distill.tasks.dense import Dense, Prepared, depth_loss
from distill.train.step import prepare

BINS = DepthScale(kind="bins", limits=(0.5, 4.5))


def batch(depth=False, size=16):
    pairs = [dense_images.scene((9, n), (size, size)) for n in range(4)]
    pixels, labels = (np.stack(part) for part in zip(*pairs, strict=True))
    if not depth:
        return {"image": pixels, "segmentation": labels}
    depths = np.where(labels == 255, np.nan, dense_images.DEPTHS[labels % 3])
    return {"image": pixels, "depth": depths.astype(np.float32)}


def drawn(outputs, width=16):
    rng = np.random.default_rng(5)
    arrays = {"kernel": rng.normal(size=(width, outputs)), "bias": rng.normal(size=outputs)}
    arrays |= {"mean": rng.normal(size=width), "std": rng.uniform(1, 2, width)}
    return {name: np.float32(one) for name, one in arrays.items()}


def task(scale=None, outputs=3, **choices):
    return Dense(headed.network(outputs, scale), **(dict(dropout=0.0) | choices))


def prepared(of, found, step=200):
    tower = dense_images.drawn(of.network)["tower"]
    return of.prepare(tower, found | {"step": jnp.int32(step)}, jax.random.key(3))


def tokens(of, found):
    """Of each patch, float64 [B, F, rows, columns]."""
    tower = dense_images.drawn(of.network)["tower"]
    base = of.network.base
    _, layers = base.with_layers(tower, base.normalise(jnp.asarray(found["image"])), (2,))
    return torch.from_numpy(np.moveaxis(np.asarray(layers.patches[:, 0], np.float64), 3, 1).copy())


def in_torch(of, found, head):
    """Scores [B, C, rows, columns] by torch's batch normalisation and a 1×1 convolution."""
    x = tokens(of, found)
    norm = torch.nn.BatchNorm2d(x.shape[1], affine=False).double()
    kernel = torch.tensor(head["kernel"], dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(head["bias"], dtype=torch.float64, requires_grad=True)
    return torch.nn.functional.conv2d(norm(x), kernel.T[..., None, None], bias), kernel, bias


def interpolated(scores, size):
    return torch.nn.functional.interpolate(scores, size=size, mode="bilinear", align_corners=False)


def test_the_loss_of_classes_and_its_gradient_are_torch_s():
    of, found, head = task(), batch(), drawn(3)
    scores, kernel, bias = in_torch(of, found, head)
    labels = torch.from_numpy(found["segmentation"].astype(np.int64))
    wanted = torch.nn.functional.cross_entropy(
        interpolated(scores, (16, 16)), labels, ignore_index=255
    )
    wanted.backward()
    ready = prepared(of, found)
    (loss, metrics), slope = jax.value_and_grad(of.loss, has_aux=True)(head, ready)
    assert float(loss) == pytest.approx(wanted.item(), rel=1e-5)
    np.testing.assert_allclose(slope["kernel"], kernel.grad.numpy(), atol=1e-5)
    np.testing.assert_allclose(slope["bias"], bias.grad.numpy(), atol=1e-5)
    assert not np.any(slope["mean"]) and not np.any(slope["std"])
    right = interpolated(scores, (16, 16)).argmax(1) == labels
    assert float(metrics["pixel_accuracy"]) == pytest.approx(
        right[labels != 255].double().mean().item(), abs=1e-6
    )


@pytest.mark.parametrize("step", [0, 99, 100])
def test_the_loss_of_depths_and_its_gradient_are_torch_s(step):
    of, found, head = task(BINS, 7), batch(depth=True), drawn(7)
    scores, kernel, bias = in_torch(of, found, head)
    weights = torch.relu(scores) + 0.1
    weights = weights / weights.sum(dim=1, keepdim=True)
    centres = torch.linspace(0.5, 4.5, 7, dtype=torch.float64)
    depths = torch.einsum("bkhw,k->bhw", weights, centres)
    depths = interpolated(depths[:, None], (16, 16))[:, 0]
    target = torch.from_numpy(found["depth"].astype(np.float64))
    known = (target > 0.5) & (target < 4.5)
    g = torch.log(depths[known] + 1e-3) - torch.log(target[known] + 1e-3)
    variance = 0 if step < 100 else torch.var(g)
    wanted = torch.sqrt(variance + 0.15 * g.mean() ** 2)
    wanted.backward()
    (loss, _), slope = jax.value_and_grad(of.loss, has_aux=True)(head, prepared(of, found, step))
    assert float(loss) == pytest.approx(wanted.item(), rel=1e-5)
    np.testing.assert_allclose(slope["kernel"], kernel.grad.numpy(), atol=1e-5)
    np.testing.assert_allclose(slope["bias"], bias.grad.numpy(), atol=1e-5)


@pytest.mark.parametrize("value", [1.5, np.nan])
def test_where_depths_are_exact_or_none_is_known_the_slope_is_finite(value):
    target = np.full((2, 4, 4), value, np.float32)

    def loss(depths):
        return depth_loss(depths, target, BINS, mean_alone=False)[0]

    found, slope = jax.value_and_grad(loss)(jnp.full((2, 4, 4), 1.5))
    assert np.isfinite(found) and np.isfinite(slope).all() and found < 1e-3


def test_depths_of_bins_are_their_weighted_mean():
    scores = np.float32([[-3, 0, 2.0], [5, -1, -1]])
    weights = np.maximum(scores.astype(np.float64), 0) + 0.1
    wanted = (weights * [0.5, 2.5, 4.5]).sum(1) / weights.sum(1)
    np.testing.assert_allclose(BINS(jnp.asarray(scores))[:, 0], wanted, rtol=1e-6)
    log = DepthScale(kind="log", limits=(0.5, 4.5))
    np.testing.assert_allclose(
        log(jnp.float32([[0.0], [9.0], [-9.0]]))[:, 0], [1.0, 4.5, 0.5], rtol=1e-6
    )


def test_images_all_of_whose_pixels_are_ignored_count_for_nothing():
    of, found, head = task(), batch(), drawn(3)
    found["segmentation"] = np.full_like(found["segmentation"], 255)
    loss, metrics = of.loss(head, prepared(of, found))
    assert float(loss) == 0 and float(metrics["pixel_accuracy"]) == 0


def test_dropout_takes_whole_features_of_an_image_and_depends_on_the_step_alone():
    of, found = task(dropout=0.5), batch()
    tower = dense_images.drawn(of.network)["tower"]
    placed = {name: jnp.asarray(one) for name, one in found.items()}
    ready = [prepare(of, 7, step, tower, placed) for step in (0, 0, 1)]
    assert isinstance(ready[0], Prepared) and int(ready[2].step) == 1
    np.testing.assert_array_equal(ready[0].tokens, ready[1].tokens)
    assert np.any(np.asarray(ready[0].tokens != ready[2].tokens))
    flat = np.asarray(ready[0].tokens).reshape(4, 16, 16)
    # What is dropped is one value in all patches of an image.
    dropped = np.ptp(flat, axis=1) == 0
    assert 10 < dropped.sum() < 54


def test_statistics_are_of_the_whole_batch():
    of, found = task(), batch()
    whole = np.asarray(prepared(of, found).tokens)
    np.testing.assert_allclose(whole.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    half = {name: one[:2] for name, one in found.items()}
    assert np.abs(np.asarray(prepared(of, half).tokens) - whole[:2]).max() > 0.01


def test_a_batch_without_masks_is_refused():
    with pytest.raises(UserError, match=r"no 'segmentation'.*source=masks:PATH"):
        prepared(task(), {"image": batch()["image"]})


@pytest.mark.slow
def test_several_devices_have_the_loss_of_one():
    script = (REPOSITORY / "tests/tasks/dense_on_four_devices.py").read_text()
    one, four = run_script(script, XLA_FLAGS="--xla_force_host_platform_device_count=4")
    np.testing.assert_allclose(four, one, rtol=1e-5, atol=1e-6)
