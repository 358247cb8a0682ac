"""A pair of towers learns which text is an image's, by the train step and loop of all tasks."""

import contextlib
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from distill.config import resolve
from distill.data import Splits
from distill.data.spec import ImageSpec, TokensSpec
from distill.errors import UserError
from distill.nn import Pair, PairNetwork, TextConfig
from distill.optim import OptimizerConfig, make_optimizer, trained_params
from distill.parallel import MeshConfig, make_mesh
from distill.tasks.contrastive import Contrastive, ContrastiveConfig
from distill.train.checkpoints import Checkpoints
from distill.train.fit import fit_one
from distill.train.run import RunConfig, plan
from distill.train.state import abstract_state, init_params, init_state
from distill.train.step import Learner, compile_joint_step, make_train_step
from distill.train.trainee import Trainee
from distill.train.workdir import Workdir
from students import vit

BATCH, VOCAB, WORDS = 8, 16, 3
TEXT = TextConfig(vocab=VOCAB, length=WORDS, width=16, heads=2, depth=1, mlp_dim=24, embed_dim=32)
CONFIG = ContrastiveConfig()


def image_tower(**choices):
    shape = dict(image_size=8, width=32, heads=2, depth=1, mlp_dim=48, num_classes=0, head="gap")
    return vit.build(vit.configure("mu/4", **(shape | choices)))


def pair(mesh=None, **choices):
    network = PairNetwork.of(image_tower(), TEXT, bias=True, **choices)
    return network.placed(mesh or make_mesh(MeshConfig()))


@pytest.fixture
def network():
    return pair()


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {
        "image": jnp.asarray(rng.integers(0, 256, (BATCH, 8, 8, 3)), jnp.uint8),
        "caption": jnp.asarray(rng.integers(0, VOCAB, (BATCH, WORDS)), jnp.int32),
    }


def test_images_and_texts_learn_to_find_each_other(network, batch):
    optimizer = optax.adam(1e-2)
    task = Contrastive(network, ContrastiveConfig(block=4))
    step = make_train_step(Learner(task, optimizer), seed=0)
    state, history = init_state(network, optimizer, seed=0), []
    for _ in range(40):
        state, metrics = step(state, None, batch)
        history.append(jax.device_get(metrics))
    assert history[0]["scale"] == pytest.approx(10)
    assert history[0]["bias"] == -10
    assert history[-1]["scale"] != history[0]["scale"]
    assert history[-1]["loss"] < 0.2 * history[0]["loss"]
    assert history[-1]["image_to_text_accuracy"] == history[-1]["text_to_image_accuracy"] == 1


def loss_of(task, params, batch, frozen=None):
    @jax.jit
    def run(params, batch, frozen):
        return task.loss(params, task.prepare(frozen, batch, jax.random.key(0)))

    return jax.device_get(run(params, batch, frozen))


def test_the_loss_is_that_of_the_similarities_the_network_gives(network, batch):
    params = init_params(network, 0)
    images = network.prepare(batch["image"])
    compare = jax.jit(functools.partial(network.apply, method=Pair.compare))
    logits = np.asarray(compare(params, images, batch["caption"]), np.float64)
    own = np.arange(BATCH)
    loss, metrics = loss_of(Contrastive(network, CONFIG), params, batch)
    signs = 2 * np.eye(BATCH) - 1
    np.testing.assert_allclose(loss, np.logaddexp(0, -signs * logits).sum() / BATCH, rtol=1e-5)
    assert metrics["image_to_text_accuracy"] == np.float32(np.mean(logits.argmax(1) == own))
    assert metrics["text_to_image_accuracy"] == np.float32(np.mean(logits.argmax(0) == own))
    loss, _ = loss_of(Contrastive(network, ContrastiveConfig(kind="softmax")), params, batch)
    exponentials = np.exp(logits)
    rows, columns = exponentials / exponentials.sum(1)[:, None], exponentials / exponentials.sum(0)
    expected = -0.5 * np.mean(np.log(np.diag(rows)) + np.log(np.diag(columns)))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_texts_that_are_equal_belong_to_each_others_images(network, batch, kind):
    """Of a batch of one text all is found, and softmax has nothing but chance to tell apart."""
    one = batch | {"caption": jnp.tile(batch["caption"][:1], (BATCH, 1))}
    params = init_params(network, 0) | {"bias": jnp.float32(30)}
    loss, metrics = loss_of(Contrastive(network, ContrastiveConfig(kind=kind)), params, one)
    assert metrics["image_to_text_accuracy"] == metrics["text_to_image_accuracy"] == 1
    competing = ContrastiveConfig(kind=kind, match_equal_texts=False)
    other, metrics = loss_of(Contrastive(network, competing), params, one)
    assert metrics["image_to_text_accuracy"] == 1 / BATCH
    if kind == "sigmoid":
        # At this bias everything is said to belong together.
        assert loss < 1e-6 and other > 100
    else:
        assert loss >= np.log(BATCH) - 1e-5
    different, _ = loss_of(Contrastive(network, ContrastiveConfig(kind=kind)), params, batch)
    same, _ = loss_of(Contrastive(network, competing), params, batch)
    assert different == same


def test_a_frozen_image_tower_has_no_gradient_and_no_moments(network, batch):
    config = OptimizerConfig(name="adam", freeze=(("^image/", True),), clip_norm=None)
    given = config, network.abstract_params, network.axes
    optimizer = make_optimizer(config, lambda step: 1.0, *given[1:])
    learner = Learner(Contrastive(network, CONFIG), optimizer, trained_params(*given))
    state = init_state(network, optimizer, seed=0)
    kept = {
        entry
        for path, _ in jax.tree.leaves_with_path(state.opt_state)
        for entry in map(jax.tree_util.keystr, zip(path))
    }
    assert "['text']" in kept and "['image']" not in kept
    before = jax.device_get(state.params)
    state, _ = make_train_step(learner, seed=0)(state, None, batch)
    jax.tree.map(np.testing.assert_array_equal, state.params["image"], before["image"])
    for name in ("text", "temperature", "bias"):
        moved = jax.tree.map(lambda a, b: np.any(a != b), state.params[name], before[name])
        assert any(jax.tree.leaves(moved)), name


STORED = "stored/embedding/giant"


def train(task, frozen, batches, seed=0):
    """The parameters and the metrics after a step on each of the batches."""
    optimizer = optax.adam(1e-2)
    states = {"network": init_state(task.network, optimizer, seed)}
    learners = {"network": Learner(task, optimizer)}
    step = compile_joint_step(learners, seed, states, frozen, batches[0])
    for batch in batches:
        states, metrics = step(states, frozen, batch)
    return jax.device_get((states["network"].params, metrics["network"]))


def test_stored_embeddings_train_the_text_tower_that_the_live_tower_does(network, batch):
    tower = image_tower().placed(network.mesh)
    giant = init_params(tower, 7)
    batches = [batch, {name: array[::-1] for name, array in batch.items()}] * 2
    locked = network.locked().placed(network.mesh)
    live = train(Contrastive(locked, CONFIG, tower=tower), giant, batches)

    embed = jax.jit(lambda images: tower.apply(giant, tower.prepare(images)).embedding)
    kept = [
        {"caption": one["caption"], STORED: jnp.asarray(np.asarray(embed(one["image"])))}
        for one in batches
    ]
    stored = train(Contrastive(locked, CONFIG, stored=STORED), None, kept)
    jax.tree.map(np.testing.assert_array_equal, live, stored)
    begun = init_params(locked, 0)
    moved = jax.tree.map(lambda a, b: np.any(a != b), live[0], jax.device_get(begun))
    assert moved["text"]["head"]["kernel"] and moved["temperature"]


def test_a_locked_pair_and_its_tower_have_the_loss_of_the_whole(network, batch):
    params = init_params(network, 0)
    locked = network.locked().placed(network.mesh)
    rest = {name: value for name, value in params.items() if name != "image"}
    task = Contrastive(locked, CONFIG, tower=image_tower())
    whole, metrics = loss_of(Contrastive(network, CONFIG), params, batch)
    alone, others = loss_of(task, rest, batch, params["image"])
    np.testing.assert_allclose(alone, whole, rtol=1e-6)
    assert others.keys() == metrics.keys()


def test_a_projection_of_locked_embeddings_is_trained(batch):
    network = PairNetwork.of(image_tower(width=48, mlp_dim=24), TEXT, embed_dim=32)
    locked = network.locked().placed(make_mesh(MeshConfig()))
    assert locked.abstract_params.keys() == {"image_projection", "text", "temperature"}
    given = jnp.asarray(np.random.default_rng(0).standard_normal((BATCH, 48)), jnp.float16)
    task = Contrastive(locked, ContrastiveConfig(kind="softmax"), stored=STORED)
    prepared = task.prepare(None, batch | {STORED: given}, jax.random.key(0))
    assert prepared.images.dtype == jnp.float32
    step = jax.jit(jax.grad(task.loss, has_aux=True))
    gradient, metrics = step(init_params(locked, 0), prepared)
    assert np.any(gradient["image_projection"]["kernel"])
    assert "bias" not in metrics


def test_what_does_not_fit_is_refused(network, batch):
    locked, tower = network.locked(), image_tower()
    with pytest.raises(ValueError, match="no image tower; expected one of tower and stored"):
        Contrastive(locked, CONFIG)
    with pytest.raises(ValueError, match=r"not \['tower', 'stored'\]"):
        Contrastive(locked, CONFIG, tower=tower, stored=STORED)
    with pytest.raises(ValueError, match="an image tower of its own; expected neither"):
        Contrastive(network, CONFIG, tower=tower)
    with pytest.raises(ValueError, match="block must be a whole number from 1 to"):
        ContrastiveConfig(block=0)
    key = jax.random.key(0)
    with pytest.raises(UserError, match="examples have no 'caption', only image;"):
        Contrastive(network, CONFIG).prepare(None, {"image": batch["image"]}, key)
    blocks = Contrastive(network, ContrastiveConfig(block=6))
    with pytest.raises(UserError, match=r"a batch of 8 evenly; type --config\.loss\.block=2"):
        blocks.prepare(None, batch, key)


class Captioned:
    """Images of noise, and words."""

    class_names = ()
    found = fingerprint = "captions"
    spec: ClassVar = {"image": ImageSpec(3), "caption": TokensSpec(WORDS)}
    labels = np.full(16, -1, np.int32)

    def __len__(self):
        return len(self.labels)

    def read(self, index):
        rng = np.random.default_rng(index)
        words = rng.integers(0, VOCAB, WORDS).astype(np.int32)
        return {"image": rng.integers(0, 256, (9, 9, 3)).astype(np.uint8), "caption": words}

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
        task=Contrastive(network, CONFIG),
        plan=plan(config, network, splits),
    )
    mesh = network.placement.mesh
    trained = fit_one("captions", trainee, mesh=mesh, splits=splits, view_size=8)
    assert trained.params.keys() == {"image", "text", "temperature", "bias"}


def test_a_batch_whose_examples_are_compared_is_not_cut_up(network):
    learner = Learner(Contrastive(network, CONFIG), optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"set --config\.train\.microbatches=1"):
        make_train_step(learner, seed=0, microbatches=2)


def test_what_only_training_needs_is_kept_apart(network, tmp_path):
    optimizer = optax.sgd(0.1)
    state = init_state(network, optimizer, seed=0)
    names = ("temperature", "bias")
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
