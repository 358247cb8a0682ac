"""A rule says of a parameter by name where it lives, and its moments live there as well."""

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec
from support import distill_config, pretrain_config

from distill.config import ConfigError
from distill.optim import OptimizerConfig, make_optimizer
from distill.parallel import make_mesh, override_rules
from distill.runs.teachers import load_teachers
from distill.train.run import open_mesh, plan
from distill.train.state import abstract_state
from students import vit

MESH = AbstractMesh((1, 2, 4), ("data", "fsdp", "tensor"))
NETWORK = vit.build(
    vit.configure("mu/4", width=32, depth=3, mlp_dim=64, heads=2, image_size=8, num_classes=12)
)
KERNEL = "encoder/blocks/mlp/input/kernel"


def placed(*params):
    return NETWORK.placed(MESH, override_rules((), params))


def spec_of(tree, name):
    for key in name.split("/"):
        tree = tree[key]
    return tree.sharding.spec


def state_of(network, name):
    optimizer = make_optimizer(
        OptimizerConfig(name=name), lambda step: 1.0, network.abstract_params, network.axes
    )
    return abstract_state(network, optimizer)


def test_the_first_rule_that_is_found_decides_and_what_none_is_for_stays():
    rules = (
        ("blocks/mlp/input/kernel$", ("tensor", None)),
        ("blocks/mlp/.*kernel$", (None, ("fsdp", "tensor"))),
    )
    params = state_of(placed(*rules), "adam").params
    usual = state_of(placed(), "adam").params
    assert spec_of(params, KERNEL) == PartitionSpec(None, ("tensor",), None)
    output = "encoder/blocks/mlp/output/kernel"
    assert spec_of(params, output) == PartitionSpec(None, None, ("fsdp", "tensor"))
    changed = {KERNEL, output}
    for path, leaf in jax.tree.leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        assert (leaf.sharding.spec == spec_of(usual, name)) == (name not in changed), name


def test_what_is_no_stack_is_named_by_all_its_dimensions():
    params = state_of(placed(("^classifier/kernel$", ("tensor", "fsdp"))), "adam").params
    assert spec_of(params, "classifier/kernel") == PartitionSpec(("tensor",), ("fsdp",))


def test_moments_live_where_a_rule_puts_their_parameter():
    rule = ("mlp/input/kernel$", ("tensor", "fsdp"))
    # [3 layers, 32, 64]: `row` keeps the layers and 32, `column` the layers and 64.
    moments = [
        leaf.sharding.spec
        for path, leaf in jax.tree.leaves_with_path(state_of(placed(rule), "adam").opt_state)
        if jax.tree_util.keystr(path, simple=True, separator="/").endswith(KERNEL)
    ]
    assert moments == [PartitionSpec(None, ("tensor",), ("fsdp",))] * 2
    factored = {
        leaf.shape: leaf.sharding.spec
        for path, leaf in jax.tree.leaves_with_path(state_of(placed(rule), "adafactor").opt_state)
        if jax.tree_util.keystr(path, simple=True, separator="/").endswith(KERNEL)
    }
    assert factored[(3, 32)] == PartitionSpec(None, ("tensor",))
    assert factored[(3, 64)] == PartitionSpec(None, ("fsdp",))


def test_rules_do_not_change_what_the_optimiser_computes():
    # Adafactor reads the axes of a parameter to find its layers.
    usual = state_of(placed(), "adafactor").opt_state
    rule = ("mlp/input/kernel$", ("tensor", "fsdp"))
    found = state_of(placed(rule), "adafactor").opt_state
    assert [leaf.shape for leaf in jax.tree.leaves(found)] == [
        leaf.shape for leaf in jax.tree.leaves(usual)
    ]


IMPOSSIBLE = [
    ((("mlp/inptu/kernel$", (None, None)),), r"'mlp/inptu/kernel\$' matches no parameter"),
    ((("blocks/1/mlp/input/kernel$", (None, None)),), "matches no parameter"),
    ((("(kernel", (None,)),), "not a regular expression"),
    ((("mlp/.*kernel$", ()), ("mlp/input/kernel$", ())), "decides nothing"),
    (
        (("mlp/input/kernel$", (None, "fsdp", "tensor")),),
        rf"says where 3 dimensions go, but {KERNEL} has 2: embed, mlp",
    ),
    (
        (("classifier/kernel$", (None, ("fsdp", "tensor"))),),
        "cuts a dimension of 12 of classifier/kernel over fsdp and tensor, into 8 parts",
    ),
]


@pytest.mark.parametrize(("rules", "message"), IMPOSSIBLE)
def test_rules_that_do_not_fit_the_parameters_are_refused(rules, message):
    with pytest.raises(ValueError, match=message):
        placed(*rules).check_rules()


def test_a_rule_that_names_an_axis_twice_or_one_there_is_not_is_refused():
    with pytest.raises(ValueError, match="a mesh axis may be named once"):
        placed(("classifier/kernel$", ("fsdp", "fsdp")))
    with pytest.raises(ValueError, match=r"names \('model',\); mesh axes are data, fsdp, tensor"):
        placed(("classifier/kernel$", ("model", None)))


def test_rules_that_do_not_fit_are_reported_with_all_else_before_anything_is_compiled():
    text = '(("mlp/input/kernel$", ("fsdp",)),)'
    config = pretrain_config(mesh__params=text, train__batch_size=4096)
    assert config.mesh.params == (("mlp/input/kernel$", ("fsdp",)),)
    mesh = open_mesh(config)
    splits = config.data.open_splits(channels=config.model.channels)
    network = config.model.network().placed(mesh, config.mesh.table)
    with pytest.raises(ConfigError) as error:
        plan(config, network, splits)
    assert "config.mesh: rule 'mlp/input/kernel$' says where 1 dimensions go" in str(error.value)
    assert "config.train.batch_size" in str(error.value)


def test_a_teacher_has_rules_for_its_own_parameters(teacher_workdir):
    rules = '(("mlp/input/kernel$", ("fsdp", "tensor")),)'
    config = distill_config(teacher_workdir, teacher__params=rules)
    mesh = make_mesh(config.mesh)
    teachers, params = load_teachers(config.every_teacher, mesh)
    _, expected = load_teachers(distill_config(teacher_workdir).every_teacher, mesh)
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    assert teachers["teacher"].network.placement.rules.params == config.teacher.params
    for given, message in (
        (dict(teacher__params='(("mlp/inptu", ()),)'), "'mlp/inptu' matches no parameter"),
        (dict(teacher__rules='(("embed", ("model",)),)'), r"rule 'embed' names \('model',\)"),
    ):
        with pytest.raises(ConfigError, match=r"config\.teacher: .*" + message):
            load_teachers(distill_config(teacher_workdir, **given).every_teacher, mesh)
