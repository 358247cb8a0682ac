"""What tests of exports share: images, what the network makes of them, a comparison."""

import contextlib
import functools
import importlib
from collections.abc import Iterator
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from distill.export.images import ImageExportable
from distill.export.verify import Samples, Verifier


def pixels(count, channels=3):
    return np.random.default_rng(0).integers(0, 256, (count, 12, 12, channels), np.uint8)


def verifier(exported: ImageExportable, count=40) -> Verifier:
    """Of the images that the model is surest of: rounding is not to decide between classes."""
    images = pixels(4 * count, exported.image_shape[-1])
    if exported.network.config.num_classes:
        ordered = np.sort(expected(exported, images).logits, axis=-1)
        images = images[np.argsort(ordered[:, -1] - ordered[:, -2])[-count:]]
    return Verifier(exported, Samples({"images": images}))


def expected(exported: ImageExportable, images: np.ndarray):
    """What the network computes, called as training calls it."""
    config = exported.network.config
    scaled = (images.astype(np.float32) / 255 - np.float32(config.mean)) / np.float32(config.std)
    return _compiled(exported.network)(exported.params, jnp.asarray(scaled))


@functools.cache
def _compiled(network):
    return jax.jit(network.apply)


@contextlib.contextmanager
def runtimes_in_this_process() -> Iterator[None]:
    """Runs exports here, where TensorFlow and PyTorch are loaded once and not for each of them."""
    # Imported, it sets environment variables.
    check = importlib.import_module("distill.export.check")

    def run(artefact, directory, timed=(1, 32)):
        return check.main(artefact.runtime, artefact.path, directory, timed)

    with (
        mock.patch("distill.export.verify.run_artefact", run),
        mock.patch("distill.export.dense_verify.run_artefact", run),
    ):
        yield
