"""The moving average of the weights, and frozen weights, through steps and checkpoints."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import final_params, pretrain_config

from distill.optim import OptimizerConfig, make_optimizer, trained_params
from distill.tasks.classification import Classification
from distill.train.checkpoints import Checkpoints
from distill.train.state import abstract_state, init_state
from distill.train.step import Learner, make_train_step
from distill.train.workdir import Workdir
from pipelines import pretrain

DECAY = 0.5


@pytest.fixture(scope="module")
def network():
    mesh = jax.make_mesh((1, 1, 1), ("data", "fsdp", "tensor"))
    return pretrain_config(model__depth=1).model.network().placed(mesh)


@pytest.fixture(scope="module")
def batch():
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 1), np.uint8)
    return {"image": jnp.asarray(images), "label": jnp.arange(8)}


def train(network, batch, optimizer_config, steps):
    """States after 0, 1, … steps, on the host."""
    params = network.abstract_params
    optimizer = make_optimizer(optimizer_config, lambda step: 1.0, params, network.axes)
    averaged = optimizer_config.average_decay is not None
    state = init_state(network, optimizer, 0, averaged=averaged)
    learner = Learner(
        Classification(network, pretrain_config().loss),
        optimizer,
        trained=trained_params(optimizer_config, params),
        average_decay=optimizer_config.average_decay,
    )
    step = make_train_step(learner, 0)
    states = [jax.device_get(state)]
    for _ in range(steps):
        state, _ = step(state, None, batch)
        states.append(jax.device_get(state))
    return states, optimizer


@pytest.mark.slow
def test_the_average_follows_its_formula_and_leaves_training_alone(network, batch):
    config = OptimizerConfig(name="sgd", learning_rate=0.1, average_decay=DECAY)
    states, _ = train(network, batch, config, 15)
    plain, _ = train(network, batch, OptimizerConfig(name="sgd", learning_rate=0.1), 15)
    jax.tree.map(np.testing.assert_array_equal, states[-1].params, plain[-1].params)
    assert plain[-1].weights is plain[-1].params

    average = jax.tree.map(lambda p: np.asarray(p, np.float64), states[0].params)
    for done, state in enumerate(states[1:]):
        decay = min(DECAY, (1 + done) / (10 + done))
        average = jax.tree.map(lambda a, p, d=decay: d * a + (1 - d) * p, average, state.params)
        jax.tree.map(
            lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-6),
            state.weights,
            average,
        )
    # The last steps are averaged with the decay that was asked for.
    assert DECAY < (1 + 14) / (10 + 14)


def test_frozen_parameters_stay_and_the_rest_learns(network, batch):
    config = OptimizerConfig(learning_rate=0.01, freeze=(("classifier", False), (".", True)))
    (before, *_, after), _ = train(network, batch, config, 3)
    for name, moved in {"encoder": False, "patch_embed": False, "classifier": True}.items():
        same = jax.tree.map(np.array_equal, before.params[name], after.params[name])
        assert all(jax.tree.leaves(same)) is not moved


def test_a_checkpoint_offers_the_average_and_resumes_both(network, batch, tmp_path):
    config = OptimizerConfig(name="sgd", learning_rate=0.1, average_decay=DECAY)
    states, optimizer = train(network, batch, config, 2)
    state = jax.device_put(states[-1])
    abstract = abstract_state(network, optimizer, averaged=True)
    with contextlib.closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(state, {"next_example": 16})
        checkpoints.wait()
        restored, _ = checkpoints.restore(abstract, 2)
        offered = checkpoints.restore_params(abstract.params, 2)
    jax.tree.map(np.testing.assert_array_equal, restored, states[-1])
    jax.tree.map(np.testing.assert_array_equal, offered, states[-1].average)
    kernels = [tree["patch_embed"]["linear"]["kernel"] for tree in (offered, restored.params)]
    assert not np.array_equal(*kernels)


def test_a_run_evaluates_and_hands_on_the_average(tmp_path):
    config = pretrain_config(optimizer__average_decay=0.9, train__total_steps=4)
    trained = pretrain.run(config, Workdir(tmp_path), overview=False)
    jax.tree.map(np.testing.assert_array_equal, trained.params, final_params(tmp_path))
    assert (tmp_path / "checkpoints" / "4" / "trained").is_dir()
