"""Pairs of towers of one's own: what they begin as, and what does not fit."""

import dataclasses

import jax
import numpy as np
import pytest

from distill.nn import Pair, PairNetwork, TextConfig
from distill.nn.joint import normalise
from students import vit
from teachers import vit_22b

TEXT = TextConfig(vocab=11, length=5, width=16, heads=2, depth=1, mlp_dim=24, embed_dim=32)
IDS = np.random.default_rng(0).integers(0, 11, (3, 5), np.int32)


def image_tower(**choices):
    shape = dict(image_size=8, width=32, heads=2, depth=1, mlp_dim=48, num_classes=0)
    return vit.build(vit.configure("mu/4", **(shape | choices)))


def test_a_pair_begins_with_the_scale_and_bias_it_is_given():
    network = PairNetwork.of(image_tower(), TEXT, bias=True, initial_scale=20.0, initial_bias=-2.5)
    params = network.init(jax.random.key(0))
    assert params["temperature"].shape == params["bias"].shape == ()
    assert params["temperature"] == np.float32(np.log(20.0))
    assert params["bias"] == -2.5
    images = np.random.default_rng(1).standard_normal((2, 8, 8, 3)).astype(np.float32)
    ours = network.apply(params, images, method=Pair.embed_images)
    theirs = network.apply(params, IDS, method=Pair.embed_texts)
    for embedding in (ours, theirs):
        np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-6)
    logits = network.apply(params, images, IDS, method=Pair.compare)
    assert logits.shape == (2, 3)
    np.testing.assert_allclose(logits, 20 * ours @ theirs.T - 2.5, atol=1e-5)


def test_without_a_bias_there_is_none_and_nothing_is_added():
    network = PairNetwork.of(image_tower(), TEXT)
    assert network.abstract_params.keys() == {"image", "text", "temperature"}


def test_embeddings_are_normalised_as_big_vision_does():
    rows = np.array([[3.0, 4.0], [3e-8, 4e-8]], np.float32)
    wanted = rows / (np.array([[5.0], [5e-8]]) + 1e-8)
    np.testing.assert_allclose(normalise(rows), wanted, rtol=1e-5)
    assert normalise(rows.astype(jax.numpy.bfloat16)).dtype == np.float32


def test_an_image_tower_of_any_family_has_its_own_blocks_in_a_pair():
    image = vit_22b.build(
        vit_22b.configure(
            image_size=28, width=32, heads=2, depth=1, mlp_dim=48, num_classes=0, head="map"
        )
    )
    network = PairNetwork.of(image, TEXT)
    assert network.abstract_params["image"] == image.abstract_params
    network.check(2)
    assert network.with_attention("plain").config.text.attention == "plain"
    assert network.with_attention("plain").config.image.attention == "plain"


def executed(network):
    return {key: how.remat for key, how in network.executions(2).items()}


def test_what_is_computed_twice_is_said_of_each_tower_that_is_trained():
    text = dataclasses.replace(TEXT, remat="full")
    network = PairNetwork.of(image_tower(remat="dots"), text)
    assert executed(network) == {"image": "dots", "text": "full"}
    assert executed(network.locked()) == {"text": "full"}
    assert executed(image_tower(remat="dots")) == {"": "dots"}


def test_images_are_prepared_as_the_image_tower_is_fed():
    image = image_tower(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 3)).astype(np.uint8)
    network = PairNetwork.of(image, TEXT)
    np.testing.assert_array_equal(network.prepare(pixels), image.prepare(pixels))


def test_a_locked_pair_has_all_parameters_but_the_image_tower():
    network = PairNetwork.of(image_tower(), TEXT, embed_dim=32, bias=True)
    locked = network.locked()
    (given,) = locked.abstract_inputs(4)
    assert given.shape == (4, 32)
    locked.check(4)
    rest = {name: value for name, value in network.abstract_params.items() if name != "image"}
    assert locked.abstract_params == rest
    params = network.init(jax.random.key(0))
    images = np.random.default_rng(1).standard_normal((2, 8, 8, 3)).astype(np.float32)
    embeddings = image_tower().apply(params["image"], images).embedding
    logits = locked.apply(
        {name: params[name] for name in rest}, embeddings, IDS, method=Pair.compare
    )
    np.testing.assert_allclose(
        logits, network.apply(params, images, IDS, method=Pair.compare), atol=1e-5
    )


def test_a_locked_pair_begins_alike_whatever_its_image_tower_is():
    pairs = [PairNetwork.of(image_tower(depth=depth), TEXT).locked() for depth in (1, 2)]
    jax.tree.map(np.testing.assert_array_equal, *(one.init(jax.random.key(0)) for one in pairs))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (dict(embed_dim=24), "images have embeddings of 24 and texts of 32"),
        (dict(embed_dim=-1), "embed_dim must be a whole number from 0"),
        (dict(initial_scale=0.0), "initial_scale must be a number from 1e-18"),
    ],
)
def test_towers_that_do_not_fit_are_refused(choices, message):
    with pytest.raises(ValueError, match=message):
        PairNetwork.of(image_tower(), TEXT, **choices)
