"""How pixel values are normalised: as a model declares it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill.config import ConfigError, resolve, to_dict
from distill.nn.family import ModelConfig
from distill.nn.preprocess import prepare_images
from students import vit

# Of ImageNet.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def views():
    return np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)


def model(**choices):
    return {"family": "vit", "variant": "mu/4", "image_size": 8, "num_classes": 3} | choices


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_default_is_x_over_127_5_minus_1_bit_for_bit(compiled, channels):
    rng = np.random.default_rng(0)
    mixed = rng.uniform(0, 255, (64, 64)).astype(np.float32)
    images = np.concatenate([np.arange(256, dtype=np.float32), mixed.ravel()])
    images = np.repeat(images[:, None], channels, 1).reshape(-1, 1, 1, channels)
    network = vit.build(vit.configure("mu/1", image_size=1, channels=channels))

    def reference(images):
        return images.astype(jnp.float32) / 127.5 - 1.0

    prepare, reference = (jax.jit(f) if compiled else f for f in (network.prepare, reference))
    prepared = prepare(jnp.asarray(images))
    assert prepared.dtype == jnp.float32
    np.testing.assert_array_equal(prepared, reference(jnp.asarray(images)))


@pytest.mark.parametrize(
    "mean, std",
    [(MEAN, STD), (MEAN, (0.25,)), ((0.0,), STD), ((0.0,), (1.0,)), ((0.3,), (0.7,))],
)
def test_each_channel_is_normalised_by_its_mean_and_deviation(views, mean, std):
    prepared = prepare_images(jnp.asarray(views), (8, 8), mean, std)
    expected = (views.astype(np.float64) / 255 - np.array(mean)) / np.array(std)
    assert prepared.shape == views.shape and prepared.dtype == jnp.float32
    np.testing.assert_allclose(prepared, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("family, variant", [("vit", "mu/4"), ("vit_22b", "22B/4")])
def test_a_network_prepares_images_as_its_config_says(views, family, variant):
    small = dict(width=16, depth=1, mlp_dim=32, heads=2)
    config = resolve(
        ModelConfig, model(family=family, variant=variant, mean=MEAN, std=list(STD), **small)
    )
    assert resolve(ModelConfig, to_dict(config)) == config
    prepared = config.network().prepare(jnp.asarray(views))
    expected = (views.astype(np.float64) / 255 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(prepared, expected, rtol=0, atol=2e-6)


def test_a_config_recorded_without_it_has_the_default():
    recorded = to_dict(resolve(ModelConfig, model()))
    for name in ("mean", "std"):
        assert recorded.pop(name) == [0.5]
    config = resolve(ModelConfig, recorded).network().config
    assert (config.mean, config.std) == ((0.5,), (0.5,))


@pytest.mark.parametrize(
    "choices, message",
    [
        (dict(mean=(0.5, 0.5)), r"mean must have one value, or one for each of 3 channels"),
        (dict(std=()), r"std must have one value"),
        (dict(std=STD, channels=1), r"std .* each of 1 channels"),
        (
            dict(std=(0.2, 0.0, 0.2)),
            r"std is \(0\.2, 0\.0, 0\.2\); expected list of",
        ),
        (dict(std=(-1.0,)), "std is"),
    ],
)
def test_impossible_normalisations_are_refused(choices, message):
    with pytest.raises(ConfigError, match=message):
        resolve(ModelConfig, model(**choices))
