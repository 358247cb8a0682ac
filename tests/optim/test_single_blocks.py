"""Settings of single blocks, on stacks, against an optimiser for every block."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill.optim import OptimizerConfig, make_optimizer, trained_params
from distill.tasks.classification import Classification, ClassificationConfig
from distill.train.state import init_params, init_state
from distill.train.step import Learner, make_train_step
from students import vit

DEPTH, RATE, DECAY = 3, 0.1, 0.03
NAMES = ["adafactor", "adam", "sgd"]
HALF = lambda step: jnp.float32(0.5)  # noqa: E731
SHAPES = {
    "patch_embed": {"kernel": (40, 33)},
    "encoder": {
        "blocks": {"mlp": {"kernel": (DEPTH, 32, 40), "bias": (DEPTH, 40)}},
        "norm": {"scale": (40,)},
    },
    "head": {"kernel": (40, 32)},
}
AXES = {
    "patch_embed": {"kernel": (None, "embed")},
    "encoder": {
        "blocks": {"mlp": {"kernel": ("layers", "embed", "mlp"), "bias": ("layers", "mlp")}},
        "norm": {"scale": ("embed",)},
    },
    "head": {"kernel": ("embed", "classes")},
}


def tree(seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: jnp.asarray(rng.standard_normal(shape), jnp.float32),
        SHAPES,
        is_leaf=lambda node: isinstance(node, tuple),
    )


def updates_of(config, params_of=tree, axes=AXES, steps=3):
    """What each of a few steps adds to the same parameters."""
    params, every = params_of(0), []
    optimizer = make_optimizer(config, HALF, params, axes)
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for step in range(steps):
        updates, state = update(params_of(step + 1), state, params)
        every.append(updates)
    return every


def of_block(block):
    """One block, alone and not stacked."""
    return lambda seed: jax.tree.map(lambda x: x[block], tree(seed)["encoder"]["blocks"])


@pytest.mark.parametrize("name", NAMES)
def test_a_value_for_each_block_is_an_optimiser_for_each_block(name):
    multipliers, decays = (0.0, 0.25, 3.0), (0.03, 0.0, 0.1)
    every = updates_of(
        OptimizerConfig(
            name=name,
            learning_rate=RATE,
            clip_norm=None,
            learning_rate_multipliers=tuple(
                (f"blocks/{block}/", m) for block, m in enumerate(multipliers)
            ),
            weight_decay=tuple(
                (f"encoder/blocks/{block}/.*kernel", wd) for block, wd in enumerate(decays)
            ),
        )
    )
    for block in range(DEPTH):
        alone = OptimizerConfig(
            name=name,
            learning_rate=RATE,
            clip_norm=None,
            learning_rate_multipliers=((".", multipliers[block]),),
            weight_decay=(("kernel", decays[block]),),
        )
        for found, expected in zip(every, updates_of(alone, of_block(block), None), strict=True):
            jax.tree.map(
                lambda u, e, block=block: np.testing.assert_allclose(
                    u[block], e, rtol=2e-6, atol=1e-8
                ),
                found["encoder"]["blocks"],
                expected,
            )


@pytest.mark.parametrize("name", NAMES)
def test_layer_decay_is_that_of_beit(name):
    """Layer 0 are the embeddings, L + 1 is what follows the blocks; d^(L + 1 − layer)."""
    config = dict(name=name, learning_rate=RATE, learning_rate_multipliers=(("kernel", 2.0),))
    plain = updates_of(OptimizerConfig(**config))
    scaled = updates_of(OptimizerConfig(**config, layer_decay=0.5))
    for one, other in zip(plain, scaled, strict=True):
        by_layer = {
            0: lambda tree: tree["patch_embed"],
            **{
                block + 1: lambda tree, block=block: jax.tree.map(
                    lambda x: x[block], tree["encoder"]["blocks"]
                )
                for block in range(DEPTH)
            },
            DEPTH + 1: lambda tree: (tree["encoder"]["norm"], tree["head"]),
        }
        for layer, part in by_layer.items():
            factor = 0.5 ** (DEPTH + 1 - layer)
            jax.tree.map(
                lambda u, e, f=factor: np.testing.assert_array_equal(u, f * e),
                part(other),
                part(one),
            )


@pytest.mark.parametrize(
    ("choices", "before"),
    [
        (dict(head="map"), {"patch_embed", "position"}),
        (
            dict(head="cls", registers=2, pre_norm=True),
            {"patch_embed", "position", "class_token", "registers", "pre_norm"},
        ),
    ],
)
def test_every_part_of_a_model_is_before_or_after_its_blocks(choices, before):
    network = small(**choices)
    params = jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), network.abstract_params)
    config = OptimizerConfig(name="sgd", learning_rate=1.0, clip_norm=None, layer_decay=0.5)
    optimizer = make_optimizer(config, lambda step: 1.0, params, network.axes)
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    found = {
        name: {float(-u.mean()) for u in jax.tree.leaves(of_part)}
        for name, of_part in updates.items()
        if name != "encoder"
    }
    assert {name for name, factors in found.items() if factors == {0.5 ** (DEPTH + 1)}} == before
    assert all(found[name] == {1.0} for name in found.keys() - before)
    assert {"head", "classifier"} & (found.keys() - before)


def test_layer_decay_needs_layers():
    with pytest.raises(ValueError, match="no parameter has the axis 'layers'"):
        make_optimizer(OptimizerConfig(layer_decay=0.5), HALF, tree(0))


@pytest.mark.parametrize("decay", [0.0, -0.5, 1.5, float("nan")])
def test_layer_decay_that_is_none_is_refused(decay):
    with pytest.raises(ValueError, match="layer_decay must be a number above 0 to 1"):
        OptimizerConfig(layer_decay=decay)


@pytest.mark.parametrize("name", NAMES)
def test_frozen_blocks_have_no_update_and_no_say_in_clipping(name):
    choices = dict(name=name, learning_rate=RATE, weight_decay=((".", DECAY),))
    config = OptimizerConfig(**choices, freeze=(("blocks/(0|2)/", True), ("patch|norm|head", True)))
    every = updates_of(config)
    alone = updates_of(OptimizerConfig(**choices), of_block(1), None)
    for found, expected in zip(every, alone, strict=True):
        for block in (0, 2):
            stopped = jax.tree.map(lambda u, b=block: u[b], found["encoder"]["blocks"])
            assert not any(np.any(leaf) for leaf in jax.tree.leaves(stopped))
        jax.tree.map(
            lambda u, e: np.testing.assert_allclose(u[1], e, rtol=2e-6, atol=1e-8),
            found["encoder"]["blocks"],
            expected,
        )


@pytest.mark.parametrize("name", NAMES)
def test_rules_of_whole_stacks_keep_the_optimiser_they_had(name):
    """What a finished run has stored must still fit."""
    choices = dict(
        weight_decay=(("kernel", 0.1),),
        learning_rate_multipliers=(("blocks/mlp", 0.5),),
        freeze=(("head", True),),
    )
    state = make_optimizer(OptimizerConfig(name=name, **choices), HALF, tree(0), AXES).init(tree(0))
    by_number = choices | dict(
        learning_rate_multipliers=((r"blocks/\d+/", 0.5),), freeze=((r"^head/kernel$", True),)
    )
    same = make_optimizer(OptimizerConfig(name=name, **by_number), HALF, tree(0), AXES)
    assert jax.tree.structure(same.init(tree(0))) == jax.tree.structure(state)
    trained = trained_params(OptimizerConfig(**choices), tree(0), AXES)
    assert {type(leaf) for leaf in jax.tree.leaves(trained)} == {bool}


def small(**choices):
    return vit.build(
        vit.configure(
            "S/4",
            **dict(width=16, mlp_dim=32, depth=DEPTH, heads=2, image_size=8, num_classes=3)
            | choices,
        )
    ).placed(jax.make_mesh((1, 1, 1), ("data", "fsdp", "tensor")))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_frozen_blocks_come_out_of_training_as_they_went_in(name):
    network = small(head="map")
    config = OptimizerConfig(
        name=name,
        learning_rate=0.01,
        freeze=(("encoder/blocks/(0|1)/", True), ("position", True)),
        weight_decay=(("kernel", 0.1),),
        average_decay=0.9,
    )
    optimizer = make_optimizer(config, HALF, network.abstract_params, network.axes)
    state = init_state(network, optimizer, 0, averaged=True)
    before = jax.device_get(state.params)
    learner = Learner(
        Classification(network, ClassificationConfig()),
        optimizer,
        trained_params(config, network.abstract_params, network.axes),
        config.average_decay,
    )
    step = make_train_step(learner, 0)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (8, 8, 8, 3), np.uint8),
        "label": np.arange(8, dtype=np.int32) % 3,
    }
    for _ in range(4):
        state, metrics = step(state, None, batch)
    assert metrics["update_norm"] > 0
    for after in (state.params, state.average):
        stacks = jax.tree.leaves(after["encoder"]["blocks"])
        for new, old in zip(stacks, jax.tree.leaves(before["encoder"]["blocks"]), strict=True):
            np.testing.assert_array_equal(new[:2], old[:2])
        mlp = after["encoder"]["blocks"]["mlp"]["input"]["kernel"]
        assert not np.array_equal(mlp[2], before["encoder"]["blocks"]["mlp"]["input"]["kernel"][2])
        np.testing.assert_array_equal(after["position"]["table"], before["position"]["table"])


def test_the_gradient_of_frozen_blocks_is_zero_and_of_the_others_what_it_was():
    network = small(head="map")
    batch = {
        "image": np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8),
        "label": np.arange(8, dtype=np.int32) % 3,
    }
    config = OptimizerConfig(
        name="sgd",
        learning_rate=1.0,
        clip_norm=None,
        b1=0.0,
        freeze=(("encoder/blocks/1/", True), (r"^(?!encoder/blocks/)", True)),
    )
    after = {}
    for trained in (None, trained_params(config, network.abstract_params, network.axes)):
        plain = OptimizerConfig(name="sgd", learning_rate=1.0, clip_norm=None, b1=0.0)
        optimizer = make_optimizer(plain, lambda step: 1.0, network.abstract_params, network.axes)
        params = init_params(network, 0)
        params["classifier"]["kernel"] = jnp.ones_like(params["classifier"]["kernel"]).at[0].set(2)
        state = init_state(network, optimizer, 0, params=params)
        task = Classification(network, ClassificationConfig())
        step = make_train_step(Learner(task, optimizer, trained), 0)
        state, metrics = step(state, None, batch)
        after[trained is None] = state.params, metrics["grad_norm"]
    started = init_params(network, 0)["encoder"]["blocks"]
    for free, stopped, start in zip(
        *(jax.tree.leaves(after[key][0]["encoder"]["blocks"]) for key in (True, False)),
        jax.tree.leaves(started),
        strict=True,
    ):
        np.testing.assert_array_equal(stopped[1], start[1])
        np.testing.assert_allclose(stopped[::2], free[::2], rtol=1e-5, atol=1e-6)
    assert 0 < after[False][1] < after[True][1]
