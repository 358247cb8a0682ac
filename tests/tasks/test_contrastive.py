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

from distill.config import resolve
from distill.data import Splits
from distill.data.spec import ImageSpec, TokensSpec
from distill.nn import Network, VisionTransformer, ViTConfig
from distill.nn.preprocess import prepare_images
from distill.parallel import MeshConfig, make_mesh
from distill.train.checkpoints import Checkpoints
from distill.train.fit import Trainee, fit_one
from distill.train.run import RunConfig, plan
from distill.train.state import abstract_state, init_state
from distill.train.step import Learner, make_train_step
from distill.train.workdir import Workdir
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


class Captioned:
    """Images of noise, and words."""

    class_names = ()
    found = fingerprint = "captions"
    spec: ClassVar = {"image": ImageSpec(3), "text": TokensSpec(WORDS)}
    labels = np.full(16, -1, np.int32)

    def __len__(self):
        return len(self.labels)

    def read(self, index):
        rng = np.random.default_rng(index)
        words = rng.integers(0, VOCAB, WORDS).astype(np.int32)
        return {"image": rng.integers(0, 256, (9, 9, 3)).astype(np.uint8), "text": words}

    def describe(self, index):
        return f"image {index}"


def test_the_loop_trains_a_network_whose_config_is_its_own(network, tmp_path):
    tree = dict(
        data=dict(validation_split=None, test_split=None),
        optimizer=dict(name="adam", learning_rate=1e-2),
        schedule=dict(kind="constant", warmup_steps=0),
        train=dict(batch_size=BATCH, total_steps=2),
    )
    config = resolve(RunConfig, tree, {}).completed()
    splits = Splits(Captioned(), None, None)
    trainee = Trainee(
        config=config,
        workdir=Workdir(tmp_path),
        network=network,
        task=Contrastive(network),
        plan=plan(config, network, splits),
    )
    mesh = network.placement.mesh
    trained = fit_one("captions", trainee, mesh=mesh, splits=splits, view_size=8)
    assert trained.params.keys() == {"image", "text", "temperature"}


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
