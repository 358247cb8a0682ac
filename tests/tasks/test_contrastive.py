"""A task of two towers, images and text, in the train step and checkpoints that all tasks have."""

import contextlib
import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from distill.nn import Network, VisionTransformer, ViTConfig
from distill.nn.preprocess import prepare_images
from distill.parallel import MeshConfig, make_mesh
from distill.train.checkpoints import Checkpoints
from distill.train.state import abstract_state, init_state
from distill.train.step import Learner, make_train_step
from students import vit

BATCH, VOCAB, WORDS = 8, 16, 3


@dataclasses.dataclass(frozen=True)
class TowersConfig:
    """An image tower and a bag of words of its width."""

    image: ViTConfig
    vocab: int = VOCAB


class Towers(nnx.Module):
    """Embeddings of images and of texts, and the scale of their products."""

    def __init__(self, config: TowersConfig, *, rngs: nnx.Rngs):
        self.image = VisionTransformer(config.image, rngs=rngs)
        self.text = nnx.Embed(config.vocab, config.image.width, rngs=rngs)
        self.temperature = nnx.Param(jnp.ones(()))

    def __call__(self, images, tokens):
        ours, theirs = self.image(images).embedding, jnp.mean(self.text(tokens), axis=1)
        return _unit(ours) @ _unit(theirs).T * jnp.exp(self.temperature[...])


def _unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class Contrastive:
    """Each image is to find its text among those of the batch (arXiv 2103.00020, §2.3)."""

    needs_labels: ClassVar[bool] = False
    training_only: ClassVar[tuple[str, ...]] = ("temperature",)
    mean_over_examples: ClassVar[bool] = False

    network: Network

    def prepare(self, frozen, batch, key):
        del frozen, key
        side = self.network.config.image.image_shape[:2]
        return prepare_images(batch["image"], side), batch["text"]

    def loss(self, params, prepared):
        products = self.network.apply(params, *prepared)
        own = jnp.arange(len(products))
        loss = optax.losses.softmax_cross_entropy_with_integer_labels(products, own)
        return jnp.mean(loss), {"found": jnp.mean(jnp.argmax(products, -1) == own)}


@pytest.fixture
def network():
    image = vit.configure("mu/4", image_size=8, num_classes=0, head="gap")
    return Network(TowersConfig(image), Towers).placed(make_mesh(MeshConfig()))


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {
        "image": jnp.asarray(rng.integers(0, 256, (BATCH, 8, 8, 3)), jnp.uint8),
        "text": jnp.asarray(rng.integers(0, VOCAB, (BATCH, WORDS)), jnp.int32),
    }


def test_images_learn_to_find_their_texts(network, batch):
    optimizer = optax.adam(1e-2)
    step = make_train_step(Learner(Contrastive(network), optimizer), seed=0)
    state, history = init_state(network, optimizer, seed=0), []
    for _ in range(30):
        state, metrics = step(state, None, batch)
        history.append(jax.device_get(metrics))
    assert history[0]["loss"] == pytest.approx(np.log(BATCH), rel=0.5)
    assert history[-1]["loss"] < 0.2
    assert history[-1]["found"] == 1.0
    assert state.params["temperature"] > 1.0


def test_a_batch_whose_examples_are_compared_is_not_cut_up(network):
    learner = Learner(Contrastive(network), optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"set --config\.train\.microbatches=1"):
        make_train_step(learner, seed=0, microbatches=2)


def test_what_only_training_needs_is_kept_apart(network, tmp_path):
    optimizer = optax.sgd(0.1)
    state = init_state(network, optimizer, seed=0)
    names = Contrastive.training_only
    with contextlib.closing(Checkpoints(tmp_path, training_only=names)) as checkpoints:
        checkpoints.save(state, {"next_example": 0})
        checkpoints.wait()
        restored, _ = checkpoints.restore(abstract_state(network, optimizer), 0)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    finished = {k: v for k, v in network.abstract_params.items() if k not in names}
    with contextlib.closing(Checkpoints(tmp_path, read_only=True)) as checkpoints:
        offered = checkpoints.restore_params(finished, 0)
    assert offered.keys() == {"image", "text"}


def test_a_name_that_a_checkpoint_has_already_is_refused(tmp_path):
    with pytest.raises(ValueError, match="a checkpoint has optimizer already"):
        Checkpoints(tmp_path, training_only=("optimizer",))
