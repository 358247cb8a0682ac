"""Classifiers whose classes are texts, beside the equations in float64."""

import jax
import numpy as np
import pytest

from distill.nn import Pair, PairNetwork, TextConfig, ZeroShotNetwork
from distill.nn.zero_shot import class_vectors, classifier_params
from distill.parallel import MeshConfig, make_mesh
from students import vit

TEXT = TextConfig(vocab=11, length=5, width=16, heads=2, depth=1, mlp_dim=24, embed_dim=32)
# Of three classes, in no order, the last with one text alone.
CLASSES = np.array([0, 1, 1, 0, 1, 2, 0, 1])
IDS = np.random.default_rng(4).integers(0, TEXT.vocab, (len(CLASSES), TEXT.length), np.int32)
IMAGES = np.random.default_rng(5).standard_normal((4, 8, 8, 3)).astype(np.float32)


def image_tower():
    shape = dict(image_size=8, width=32, heads=2, depth=1, mlp_dim=48, num_classes=0)
    return vit.build(vit.configure("mu/4", **shape))


def pair(**choices):
    """A pair whose every parameter is random."""
    network = PairNetwork.of(image_tower(), TEXT, **choices)
    rng = np.random.default_rng(6)
    params = jax.tree.map(
        lambda leaf: np.float32(0.3 * rng.standard_normal(leaf.shape) + (leaf.shape == ())),
        network.abstract_params,
    )
    return network, params


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def reference(network, params):
    """Class vectors in float64, of each text's embedding."""
    texts = np.float64(network.apply(params, IDS, method=Pair.embed_texts))
    return unit(np.stack([texts[number == CLASSES].mean(0) for number in range(3)]))


@pytest.mark.parametrize("batch_size", [1, 3, 8, 100])
def test_class_vectors_are_means_of_length_one(batch_size):
    network, params = pair()
    found = class_vectors(network, params, IDS, CLASSES, batch_size=batch_size)
    wanted = reference(network, params)
    assert found.dtype == np.float32 and found.shape == (3, 32)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6)
    # A mean over several is shorter than they are, and no sum is another's direction.
    assert np.abs(wanted[0] - wanted[1]).max() > 0.01


def test_a_class_without_a_text_is_an_error():
    network, params = pair()
    with pytest.raises(ValueError, match="class 1 has no text"):
        class_vectors(network, params, IDS[:2], np.array([0, 2]))


@pytest.mark.parametrize("choices", [{}, dict(bias=True), dict(embed_dim=32, projection_bias=True)])
def test_logits_are_scaled_cosines_with_the_bias(choices):
    network, params = pair(**choices)
    vectors = class_vectors(network, params, IDS, CLASSES)
    classifier = ZeroShotNetwork.of(image_tower(), network.config, 3)
    given = classifier_params(params, vectors)
    assert jax.tree.map(np.shape, given) == jax.tree.map(np.shape, classifier.abstract_params)
    found = classifier.apply(given, IMAGES)
    images = np.float64(image_tower().apply(params["image"], IMAGES).embedding)
    if choices.get("embed_dim"):
        kernel, bias = (np.float64(params["image_projection"][n]) for n in ("kernel", "bias"))
        images = images @ kernel + bias
    wanted = unit(images) @ reference(network, params).T * np.exp(np.float64(params["temperature"]))
    wanted = wanted + (np.float64(params["bias"]) if choices.get("bias") else 0)
    np.testing.assert_allclose(found.embedding, unit(images), rtol=0, atol=2e-5)
    np.testing.assert_allclose(found.logits, wanted, rtol=0, atol=2e-4)
    assert found.tokens.shape == (4, 4, 32) and found.logits.dtype == np.float32
    assert classifier.config.num_classes == 3 and classifier.config.channels == 3


def test_on_a_mesh_they_are_the_same():
    network, params = pair(bias=True)
    mesh = make_mesh(MeshConfig(data=1, fsdp=-1))
    placed = network.placed(mesh)
    on_mesh = jax.device_put(params, placed.shardings)
    found = class_vectors(placed, on_mesh, IDS, CLASSES, batch_size=mesh.size)
    np.testing.assert_allclose(
        found, class_vectors(network, params, IDS, CLASSES), rtol=0, atol=1e-6
    )
    classifier = ZeroShotNetwork.of(image_tower(), network.config, 3).placed(mesh)
    classifier.check(mesh.size)
    assert classifier.with_attention("plain").config.image.attention == "plain"
