"""Frozen features are the model's embeddings, one for each image that can be read."""

import jax
import numpy as np
import pytest
from support import Damaged

from distill.data import DataConfig, Subset, ViewConfig, open_source
from distill.errors import RunFailed
from distill.evaluate.features import FeatureExtractor, split_loader
from distill.nn.preprocess import prepare_images
from distill.parallel import MeshConfig, make_mesh
from distill.train.state import init_params
from students import vit

COUNT, BATCH = 21, 8
# The view is the whole image, so that the reference need not cut it.
DATA = DataConfig(threads=1, view=ViewConfig(eval_crop=1.0), max_corrupt_share=0.5)


@pytest.fixture(scope="module")
def model():
    mesh = make_mesh(MeshConfig())
    shape = dict(width=16, depth=1, mlp_dim=16, heads=2, image_size=8, channels=1, num_classes=0)
    network = vit.build(vit.configure("mu/4", **shape, dtype="bfloat16")).placed(mesh)
    return network, init_params(network, seed=0), mesh


@pytest.fixture(scope="module")
def source():
    return Subset(open_source("digits", "test", channels=1), np.arange(COUNT))


@pytest.fixture(scope="module")
def extract(model):
    network, params, mesh = model
    extractor = FeatureExtractor(network)

    def features(source, params=params):
        return extractor(params, split_loader(source, DATA, mesh, size=8, batch_size=BATCH))

    return features


def test_features_are_the_embeddings_of_the_images_in_order(model, source, extract):
    network, params, _ = model
    images = np.stack([source.read(i)["image"] for i in range(COUNT)])
    expected = jax.jit(network.apply)(params, prepare_images(images, (8, 8))).embedding
    found = extract(source)
    assert found.embedding.dtype == np.float32 and found.embedding.shape == (COUNT, 16)
    np.testing.assert_allclose(found.embedding, expected.astype(np.float32), atol=0.02)
    assert np.ptp(found.embedding, axis=0).min() > 0.1
    assert found.label.tolist() == source.labels.tolist()
    assert found.index.tolist() == list(range(COUNT))


def test_images_that_cannot_be_read_are_left_out(source, extract):
    damaged = {0, 7, 8, 20}
    found = extract(Damaged(source, damaged))
    kept = [i for i in range(COUNT) if i not in damaged]
    assert found.index.tolist() == kept
    whole = extract(source)
    np.testing.assert_array_equal(found.embedding, whole.embedding[kept])
    assert found.label.tolist() == whole.label[kept].tolist()


def test_too_many_of_them_are_an_error(source, extract):
    with pytest.raises(RunFailed, match="max_corrupt_share"):
        extract(Damaged(source, set(range(15))))


def test_an_embedding_that_is_not_finite_names_its_image(model, source, extract):
    params = jax.tree.map(lambda p: p * np.nan, model[1])
    with pytest.raises(RunFailed, match=r"digits image \d+ is not finite, .* of 21 of 21 images"):
        extract(source, params)
