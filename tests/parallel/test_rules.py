"""One table says where every array lives."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec
from support import distill_config, pretrain_config

from distill.config import ConfigError
from distill.optim import OptimizerConfig, ScheduleConfig, make_optimizer, make_schedule
from distill.parallel import (
    DEFAULT_RULES,
    MeshConfig,
    constrain,
    make_mesh,
    override_rules,
    partition_spec,
    settle,
    sharding_context,
)
from distill.parallel import rules as rules_module
from distill.train.run import open_mesh
from distill.train.state import abstract_state
from students import vit
from teachers import vit_22b

MESH_AXES = ("data", "fsdp", "tensor")
CUBE = AbstractMesh((2, 2, 2), MESH_AXES)
FSDP = AbstractMesh((1, 8, 1), MESH_AXES)
BATCH = ("data", "fsdp")


def test_activations_give_fsdp_to_the_batch_so_that_their_features_stay_whole():
    for axes, spec in {
        ("batch", "tokens", "embed"): (BATCH, None, None),
        ("batch", "tokens", "residual"): (BATCH, None, ("tensor",)),
        ("batch", "tokens", "mlp"): (BATCH, None, ("tensor",)),
        ("batch", "tokens", "heads", "head_dim"): (BATCH, None, ("tensor",), None),
    }.items():
        shape = (16, 4, 32, 8)[: len(axes)]
        assert partition_spec(CUBE, shape, axes) == PartitionSpec(*spec), axes


def test_a_batch_too_small_for_the_mesh_is_not_cut():
    assert partition_spec(CUBE, (2, 4, 32), ("batch", "tokens", "residual")) == PartitionSpec(
        None, None, ("tensor",)
    )


def test_an_override_replaces_one_rule_and_keeps_the_others():
    table = override_rules((("embed", ("fsdp", "tensor")), ("residual", ())))
    changed = {"embed": ("fsdp", "tensor"), "residual": ()}
    assert dict(table.logical) == dict(DEFAULT_RULES.logical) | changed
    spec = partition_spec(CUBE, (32, 64), ("embed", "mlp"), table)
    assert spec == PartitionSpec(("fsdp", "tensor"), None)


IMPOSSIBLE = [
    ((("width", ()),), "no logical axis 'width'; there are batch, embed"),
    ((("batch", ("data",)),), "batches are always cut over data and fsdp"),
    ((("embed", ("fsdp", "fsdp")),), "a mesh axis may be named once"),
    ((("embed", ("fsdp",)), ("embed", ())), "one rule for each logical axis, not embed, embed"),
]


@pytest.mark.parametrize(("rules", "message"), IMPOSSIBLE)
def test_impossible_rules_are_refused(rules, message):
    with pytest.raises(ValueError, match=message):
        MeshConfig(rules=rules)


@pytest.mark.parametrize(("rules", "message"), IMPOSSIBLE)
def test_impossible_rules_name_their_section_of_the_config(rules, message, tmp_path):
    with pytest.raises(ConfigError, match=r"config\.mesh: .*" + message):
        pretrain_config(mesh__rules=rules)
    with pytest.raises(ConfigError, match=r"config\.teacher: .*" + message):
        distill_config(tmp_path, teacher__rules=rules)


def test_rules_come_from_the_command_line(tmp_path):
    text = '(("residual", ()),)'
    config = distill_config(tmp_path, mesh__rules=text, teacher__rules=text)
    assert config.mesh.rules == config.teacher.rules == (("residual", ()),)
    assert dict(config.mesh.table.logical)["residual"] == ()


def test_constrain_does_nothing_outside_a_context_or_on_one_device():
    x = jnp.ones((4, 2))
    assert constrain(x, "batch", "embed") is x
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    with sharding_context(mesh, DEFAULT_RULES):
        assert constrain(x, "batch", "embed") is x


def test_constrain_means_the_contexts_mesh_and_rules():
    def spec(rules):
        def keep(x):
            with sharding_context(CUBE, rules):
                return constrain(x, "batch", "tokens", "residual")

        [equation] = jax.make_jaxpr(keep)(jnp.ones((16, 4, 32))).eqns
        return equation.params["sharding"].spec

    assert spec(DEFAULT_RULES) == PartitionSpec(BATCH, None, ("tensor",))
    assert spec(override_rules((("residual", ()),))) == PartitionSpec(BATCH, None, None)


@pytest.mark.parametrize(
    ("microbatches", "batch", "message"),
    [
        (3, 32, r"batch_size is 32, which 1 devices .* in 3 microbatches .* use 30 or 33"),
        (4, 3, r"batch_size is 3, which 1 devices .* in 4 microbatches .* use 4$"),
    ],
)
def test_a_batch_that_microbatches_do_not_divide_is_refused(microbatches, batch, message):
    config = pretrain_config(train__microbatches=microbatches, train__batch_size=batch)
    with pytest.raises(ConfigError, match=message):
        open_mesh(config)


MODELS = {
    "B/16": vit.build(vit.configure("B/16")),
    "22B/14": vit_22b.build(vit_22b.configure("22B/14")),
}


def abstract_run(model, optimizer, mesh):
    network = MODELS[model].placed(mesh)
    config = OptimizerConfig(name=optimizer, weight_decay=(("kernel$", 0.03),))
    schedule = make_schedule(ScheduleConfig(), 20_000)
    transformation = make_optimizer(config, schedule, network.abstract_params, network.axes)
    return network, abstract_state(network, transformation)


def whole_and_part(tree):
    """Bytes of all arrays, and of what one device holds of them."""
    whole = part = 0
    for leaf in jax.tree.leaves(tree):
        shape = leaf.sharding.shard_shape(leaf.shape)
        whole += leaf.size * leaf.dtype.itemsize
        part += jnp.prod(jnp.array(shape, float)).item() * leaf.dtype.itemsize
    return whole, part


@pytest.mark.parametrize("optimizer", ["adafactor", "adam"])
@pytest.mark.parametrize("model", MODELS)
def test_eight_fsdp_devices_hold_an_eighth_each(model, optimizer):
    _, state = abstract_run(model, optimizer, FSDP)
    for tree in (state.params, state.opt_state):
        whole, part = whole_and_part(tree)
        assert whole / 8 <= part <= 1.05 * whole / 8


@pytest.mark.parametrize("optimizer", ["adafactor", "adam"])
@pytest.mark.parametrize("model", MODELS)
def test_moments_are_cut_as_their_parameter_is(model, optimizer):
    network, state = abstract_run(model, optimizer, CUBE)
    by_axis = {}
    for parameter, axes in zip(
        jax.tree.leaves(state.params),
        jax.tree.leaves(network.axes, is_leaf=lambda node: isinstance(node, tuple)),
        strict=True,
    ):
        cuts = [*parameter.sharding.spec, *[None] * parameter.ndim][: parameter.ndim]
        by_axis[parameter.shape] = dict(zip(axes, cuts, strict=True)), axes
    found = 0
    structure = jax.tree.structure(state.params)
    for node in jax.tree.leaves(
        state.opt_state, is_leaf=lambda node: jax.tree.structure(node) == structure
    ):
        if jax.tree.structure(node) != structure:
            continue
        for moment, parameter in zip(*map(jax.tree.leaves, (node, state.params)), strict=True):
            cuts, axes = by_axis[parameter.shape]
            if moment.shape == parameter.shape:
                assert moment.sharding == parameter.sharding
                found += 1
            elif moment.ndim == parameter.ndim - 1 and moment.shape != (1,):
                kept = [
                    [cuts[a] for i, a in enumerate(axes) if i != dropped]
                    for dropped in range(parameter.ndim)
                    if parameter.shape[:dropped] + parameter.shape[dropped + 1 :] == moment.shape
                ]
                assert list(moment.sharding.spec) in kept, (axes, moment)
                found += 1
    assert found >= 2 * len(jax.tree.leaves(state.params))


@pytest.mark.parametrize("platform, settled", [("tpu", True), ("cpu", False)])
def test_what_is_not_differentiated_is_settled_on_tpus_alone(platform, settled, monkeypatch):
    device = types.SimpleNamespace(platform=platform)
    monkeypatch.setattr(rules_module, "current_device", lambda: device)
    x = jnp.arange(6.0)

    def plain(x):
        return jnp.sin(x).sum()

    def through(x):
        return jnp.sin(settle(x)).sum()

    assert ("optimization_barrier" in str(jax.make_jaxpr(through)(x))) == settled
    assert "optimization_barrier" not in str(jax.make_jaxpr(jax.grad(through))(x))
    assert through(x) == plain(x)
    np.testing.assert_array_equal(jax.grad(through)(x), jax.grad(plain)(x))
