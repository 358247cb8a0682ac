"""A mesh has the axes that its config names, and each is used where a rule says so."""

import json

import pytest
from jax.sharding import AbstractMesh, PartitionSpec
from support import run_python

from distill.parallel import MeshConfig, override_rules, partition_spec

EXPERT = (("expert", 2),)
MESH = AbstractMesh((1, 2, 2, 2), ("data", "fsdp", "tensor", "expert"))


def test_further_axes_follow_the_first_three_and_share_the_devices():
    config = MeshConfig(fsdp=2, axes=EXPERT)
    assert config.axis_names == ("data", "fsdp", "tensor", "expert")
    assert list(config.sizes(8).items()) == [("data", 2), ("fsdp", 2), ("tensor", 1), ("expert", 2)]
    rest = MeshConfig(data=2, axes=(("expert", -1), ("stage", 2)))
    assert rest.sizes(8) == {"data": 2, "fsdp": 1, "tensor": 1, "expert": 2, "stage": 2}


def test_a_mesh_that_does_not_fit_names_further_axes():
    with pytest.raises(ValueError, match=r"data=1, fsdp=2, tensor=1, expert=2 does not fill 8"):
        MeshConfig(data=1, fsdp=2, axes=EXPERT).sizes(8)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ((("fsdp", 2),), "names of their own, not fsdp; data, fsdp, tensor"),
        ((("expert", 2), ("expert", 1)), "names of their own, not expert, expert"),
        ((("embed", 2),), "names of their own, not embed"),
        ((("ex pert", 2),), "'ex pert' cannot name a mesh axis; expected a letter"),
        ((("", 2),), "'' cannot name a mesh axis"),
        ((("2nd", 2),), "'2nd' cannot name a mesh axis"),
        ((("expert", 0),), r"\(data, fsdp, tensor, expert\) must be positive"),
        ((("expert", -1),), "one may be -1"),
    ],
)
def test_impossible_further_axes_are_refused(axes, message):
    with pytest.raises(ValueError, match=message):
        MeshConfig(axes=axes)


@pytest.mark.parametrize(
    "given", [dict(rules=(("mlp", ("expert",)),)), dict(params=(("kernel$", ("expert", None)),))]
)
def test_rules_may_name_the_axes_there_are_and_no_others(given):
    assert MeshConfig(axes=EXPERT, **given)
    with pytest.raises(ValueError, match=r"names \('expert',\); mesh axes are data, fsdp, tensor"):
        MeshConfig(**given)


def test_an_axis_no_rule_names_cuts_nothing():
    assert partition_spec(MESH, (8, 4, 64), ("batch", "tokens", "mlp")) == PartitionSpec(
        ("data", "fsdp"), None, ("tensor",)
    )
    rules = override_rules((("mlp", ("tensor", "expert")),))
    assert partition_spec(MESH, (64, 64), ("embed", "mlp"), rules) == PartitionSpec(
        ("fsdp",), ("tensor", "expert")
    )


def test_other_sizes_leave_axes_and_rules_as_they_are():
    config = MeshConfig(fsdp=2, axes=(("expert", 2), ("stage", 2)), rules=(("mlp", ("expert",)),))
    resized = config.resized({"tensor": 4, "stage": 1})
    assert resized.sizes(16) == {"data": 1, "fsdp": 2, "tensor": 4, "expert": 2, "stage": 1}
    assert resized.rules == config.rules


EIGHT_DEVICES = """
import dataclasses
import functools
import json

import jax

jax.config.update("jax_num_cpu_devices", 8)

import numpy as np

from distill.optim import OptimizerConfig, ScheduleConfig, make_optimizer, make_schedule
from distill.parallel import MeshConfig, batch_devices, make_mesh, put_batch
from distill.tasks.classification import Classification, ClassificationConfig
from distill.train.state import init_state
from distill.train.step import Learner, make_train_step
from teachers import vit_22b

MODEL = vit_22b.configure(
    "22B/4", width=32, depth=2, mlp_dim=64, heads=4, image_size=8, num_classes=8, head="gap")


def losses(mesh_config, devices=8, **choices):
    mesh = make_mesh(mesh_config, jax.devices()[:devices])

    model = dataclasses.replace(MODEL, **choices)
    network = vit_22b.build(model).placed(mesh, mesh_config.table)
    schedule = make_schedule(ScheduleConfig(warmup_steps=0), 4)
    optimizer = make_optimizer(
        OptimizerConfig(name="adafactor", learning_rate=1e-2), schedule,
        network.abstract_params, network.axes)
    state = init_state(network, optimizer, seed=0)
    placed = jax.tree.map(lambda leaf: leaf.sharding, state)
    step = make_train_step(Learner(Classification(network, ClassificationConfig()), optimizer),
                           0, placed)
    rng, found = np.random.default_rng(0), []
    for _ in range(4):
        batch = {"image": rng.integers(0, 256, (16, 8, 8, 3), np.uint8),
                 "label": rng.integers(0, 8, 16, np.int32)}
        state, metrics = step(state, None, put_batch(mesh, batch, size=16))
        found.append(float(metrics["loss"]))
    kernel = state.params["encoder"]["blocks"]["mlp_in"]["kernel"]
    return found, list(kernel.addressable_shards[0].data.shape)


facts = {}
facts["alone"] = losses(MeshConfig(), 1)
further = functools.partial(MeshConfig, data=2, tensor=2, axes=(("expert", 2),))
facts["unused"] = losses(further())
facts["logical"] = losses(further(rules=(("mlp", ("tensor", "expert")),)))
facts["by name"] = losses(further(params=(("mlp_in/kernel$", ("tensor", "expert")),)))
facts["async"] = losses(further(), async_linear=True)
print(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def facts():
    done = run_python("-c", EIGHT_DEVICES, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mesh", "part"),
    [
        ("unused", [2, 32, 32]),
        ("logical", [2, 32, 16]),
        ("by name", [2, 16, 32]),
        ("async", [2, 32, 32]),
    ],
)
def test_a_further_axis_changes_where_a_run_computes_and_not_what(facts, mesh, part):
    found, shape = facts[mesh]
    expected, whole = facts["alone"]
    assert whole == [2, 32, 64] and shape == part
    assert found == pytest.approx(expected, rel=1e-5)
