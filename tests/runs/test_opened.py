"""Models of runs and published weights, described and opened in one way."""

import dataclasses

import jax
import numpy as np
import pytest
from published import CLASSES, big_vision_arrays
from support import distill_config

from distill.config import ConfigError, resolve
from distill.errors import UserError
from distill.estimate.jobs import make_job
from distill.parallel import MeshConfig, make_mesh
from distill.runs.models import abstract_params
from distill.runs.opened import ModelSource, describe_model, open_model
from distill.runs.weights import WeightsConfig
from students import vit


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "vit.npz"
    np.savez(path, **big_vision_arrays("original", "cls"))
    return WeightsConfig(path=str(path))


def test_what_is_described_is_what_is_opened(weights, teacher_workdir):
    mesh = make_mesh(MeshConfig())
    for model in (weights, teacher_workdir):
        for dtype in (None, "bfloat16"):
            described = describe_model(model, dtype=dtype)
            opened = open_model(model, mesh, dtype=dtype)
            assert opened.network.config == described.network.config
            assert opened.class_names == described.class_names
            assert opened.view == described.view
            abstract = abstract_params(described.network.placed(mesh), dtype)
            for leaf, shape in zip(*map(jax.tree.leaves, (opened.params, abstract)), strict=True):
                assert (leaf.shape, leaf.dtype) == (shape.shape, shape.dtype)
                assert leaf.sharding.is_equivalent_to(shape.sharding, leaf.ndim)


def test_published_weights_have_no_step(weights, teacher_workdir):
    mesh = make_mesh(MeshConfig())
    assert open_model(weights, mesh).step is None
    assert open_model(teacher_workdir, mesh).step == 10
    assert describe_model(weights).network.config.num_classes == CLASSES


def test_a_run_that_has_only_begun_can_be_described_but_not_opened(teacher_workdir, tmp_path):
    (tmp_path / "config.json").write_bytes((teacher_workdir / "config.json").read_bytes())
    assert describe_model(tmp_path).network.config.num_classes == 10
    with pytest.raises(UserError, match="no checkpoint"):
        open_model(tmp_path, make_mesh(MeshConfig()))


def test_weights_are_compared_with_what_is_expected(weights):
    mesh = make_mesh(MeshConfig())
    there = vit.named(describe_model(weights).network.config)
    open_classes = dataclasses.replace(there, num_classes=None)
    assert open_model(weights, mesh, expected=open_classes).params
    deeper = dataclasses.replace(there, depth=there.depth + 1)
    with pytest.raises(UserError, match=r"not the one config\.teacher\.model describes: encoder/"):
        open_model(weights, mesh, expected=deeper)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({}, "give workdir, .* or weights.path"),
        ({"workdir": "a", "weights": {"path": "b"}}, "give workdir, .* or weights.path"),
        ({"weights": {"path": "b"}, "step": 3}, "published weights are one set"),
    ],
)
def test_a_model_is_in_one_place(tree, message):
    with pytest.raises(ConfigError, match=message):
        resolve(ModelSource, tree)


def test_a_plan_reads_what_the_teacher_is_where_its_run_is(teacher_workdir, tmp_path):
    mesh = make_mesh(MeshConfig())
    config = distill_config(teacher_workdir, model__num_classes=10, teacher__dtype="bfloat16")
    job = make_job(config, mesh, 10)
    params = open_model(teacher_workdir, mesh, dtype="bfloat16").params
    planned = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), job.frozen["teacher"])
    assert planned == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params)
    elsewhere = distill_config(tmp_path / "gone", model__num_classes=10)
    with pytest.raises(UserError, match=r"does not exist; .* needs config\.teacher\.model"):
        make_job(elsewhere, mesh, 10)
