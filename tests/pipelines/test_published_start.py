"""Training that starts from published weights."""

import dataclasses

import jax
import numpy as np
import pytest
from published import big_vision_arrays
from support import REPOSITORY, distill_config, final_params

from distill.config import load_file, resolve
from distill.nn.family import ModelConfig
from distill.runs.start import StartConfig, starting_params
from distill.runs.weights import WeightsConfig
from distill.train.run import open_mesh
from distill.train.workdir import Workdir, read_config
from pipelines import finetune
from pipelines.finetune import FinetuneConfig, complete
from students import vit
from teachers.pretrained import open_published

KEYS = {
    "data.class_map": "in_order",
    "optimizer.freeze": '(("encoder", True), ("classifier", True))',
    "schedule.warmup_steps": "1",
    "train.total_steps": "2",
    "train.evaluate_first": "False",
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "vit.npz"
    np.savez(path, **big_vision_arrays("original", "cls", classes=10))
    return path


def config_of(weights, **keys):
    overrides = KEYS | {"start.workdir": "none", "start.weights.path": str(weights)} | keys
    tree = load_file(str(REPOSITORY / "configs/finetune/digits.py"))
    return resolve(FinetuneConfig, complete(tree, overrides), overrides)


def test_the_model_is_the_published_one_but_for_what_the_config_says(weights):
    published = open_published(weights).network.config
    model = config_of(weights, **{"start.classifier": "new"}).model
    assert isinstance(model, ModelConfig) and model.family == "vit"
    assert (model.image_size, model.num_classes) == (16, None)
    for field in dataclasses.fields(published):
        if field.name not in ("image_size", "num_classes"):
            assert getattr(model, field.name) == getattr(published, field.name), field.name


def test_any_transformer_is_one_of_the_family():
    config = vit.configure("S/16", depth=3, registers=2, num_classes=7)
    names = [field.name for field in dataclasses.fields(vit.ViTConfig)]
    assert vit.named(vit.ViTConfig(**{name: getattr(config, name) for name in names})) == config
    odd = vit.ViTConfig(width=40, depth=2, mlp_dim=50, heads=5, patch_size=3, image_size=9)
    named = vit.named(odd)
    assert named.variant == "mu/3"
    assert {name: getattr(named, name) for name in vars(odd)} == vars(odd)


def test_a_run_starts_from_the_published_parameters(weights, tmp_path):
    finetune.run(config_of(weights), Workdir(tmp_path), overview=False)
    before, after = open_published(weights).read(), final_params(tmp_path)
    for name in ("encoder", "classifier"):
        jax.tree.map(np.testing.assert_array_equal, before[name], after[name])
    recorded = read_config(tmp_path)
    assert recorded["start"]["weights"]["path"] == str(weights)
    assert recorded["model"]["num_classes"] == 10


def test_a_student_is_warned_of_what_parameters_do_not_tell(weights, capsys):
    published = open_published(weights).network.config
    model = vit.named(published)
    start = StartConfig(weights=WeightsConfig(path=str(weights)), classifier="keep")
    config = distill_config("teacher")
    mesh = open_mesh(config)
    for student in (model, dataclasses.replace(model, activation="silu", mean=(0.5, 0.5, 0.5))):
        params = starting_params(start, student.network().placed(mesh), config)()
        jax.tree.map(np.testing.assert_array_equal, params, open_published(weights).read())
        said = capsys.readouterr().err
        assert ("activation=" in said) == (student.activation == "silu")
        assert "mean=" not in said
