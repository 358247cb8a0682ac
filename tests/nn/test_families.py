import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill.config import ConfigError, resolve, stated, to_dict, with_defaults
from distill.config.tagged import members
from distill.errors import UserError
from distill.modules import modules_in
from distill.nn import ViTConfig
from distill.nn.family import ModelConfig
from distill.nn.fingerprint import fingerprint
from distill.nn.variants import VariantConfig
from distill.parallel import MeshConfig, make_mesh
from distill.runs.models import without_execution
from distill.runs.opened import open_model
from distill.runs.teachers import TeacherConfig, fingerprints
from students import vit
from teachers import vit_22b, vit_g

# As runs recorded a model when its family and variant decided what was None.
RECORDED = {
    "family": "vit_22b",
    "variant": "22B/2",
    "image_size": 8,
    "channels": 1,
    "mean": None,
    "std": None,
    "num_classes": 10,
    "head": None,
    "width": 16,
    "depth": 2,
    "mlp_dim": 32,
    "heads": 2,
    "position_embedding": None,
    "qkv_bias": None,
    "qk_norm": None,
    "qk_norm_center": None,
    "norm_bias": True,
    "norm_center": None,
    "parallel": None,
    "fused": True,
    "async_linear": None,
    "classifier_bias": -2.0,
    "dtype": "float32",
    "remat": "none",
    "remat_keep": [],
    "unroll": True,
    "attention": "auto",
}
NONE = dict.fromkeys(("width", "depth", "mlp_dim", "heads", "norm_bias", "fused"))
PLAIN = RECORDED | NONE | {"family": "vit", "variant": "mu/2", "head": "gap"}


def test_every_choice_of_a_vision_transformer_is_a_key_of_every_family():
    choices = {field.name for field in dataclasses.fields(ViTConfig)}
    families = members(VariantConfig)
    assert {one.__module__ for one in families} == {
        "students.vit",
        "teachers.vit_22b",
        "teachers.vit_g",
    }
    for family in families:
        assert choices <= {field.name for field in dataclasses.fields(family)}


def test_what_earlier_versions_recorded_is_the_same_model():
    common = dict(image_size=8, channels=1, num_classes=10, classifier_bias=-2.0, unroll=True)
    common["remat"] = "none"
    small = dict(width=16, depth=2, mlp_dim=32, heads=2, norm_bias=True, fused=True)
    assert resolve(ModelConfig, RECORDED) == vit_22b.configure("22B/2", **common, **small)
    assert resolve(ModelConfig, PLAIN) == vit.configure("mu/2", **common, head="gap")


@pytest.mark.parametrize("recorded", [RECORDED, PLAIN])
def test_what_earlier_versions_recorded_is_the_same_config(recorded):
    config = resolve(ModelConfig, recorded)
    assert with_defaults(config, recorded) == json.loads(json.dumps(to_dict(config)))
    assert resolve(ModelConfig, to_dict(config)) == config


def test_a_choice_is_given_back_to_the_variant_by_none():
    tree = {"family": "vit", "variant": "mu/2", "width": 64, "heads": 4}
    assert resolve(ModelConfig, tree, {"width": "none"}).width == 32
    assert resolve(ModelConfig, tree, {"remat": "none"}).remat == "none"


def test_a_record_is_complete_and_what_follows_from_its_variant_can_be_taken_from_it():
    config = resolve(ModelConfig, {"family": "vit", "variant": "S/16", "depth": 3})
    record = to_dict(config)
    assert record["width"] == 384 and record["patch_size"] == 16 and record["depth"] == 3
    said = stated(config)
    assert said["depth"] == 3 and not {"width", "patch_size"} & said.keys()
    larger = resolve(ModelConfig, said, {"variant": "B/8"})
    assert (larger.width, larger.patch_size, larger.depth) == (768, 8, 3)


def test_a_family_refuses_what_belongs_to_another_and_what_no_family_has():
    with pytest.raises(ConfigError) as caught:
        resolve(ModelConfig, {"family": "vit_g", "variant": "G/14", "fused": True, "widht": 3})
    assert caught.value.problems == (
        "config.fused belongs to family vit_22b, not to vit_g",
        "config.widht is unknown; did you mean config.width?",
    )
    with pytest.raises(ConfigError, match=r"family is 'vit_22'.*did you mean 'vit_22b'"):
        resolve(ModelConfig, {"family": "vit_22", "variant": "22B/14"})
    with pytest.raises(ConfigError, match="variant is missing; expected a shape and a patch"):
        resolve(ModelConfig, {"family": "vit_22b"})


def test_how_a_model_is_executed_is_no_part_of_what_it_is():
    left = without_execution(RECORDED)
    assert RECORDED.keys() - left.keys() == {
        *("attention", "async_linear", "fused", "remat", "remat_keep", "unroll")
    }
    assert list(left) == [key for key in RECORDED if key in left]


def test_a_teacher_of_an_earlier_version_keeps_its_fingerprint(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model": RECORDED, "data": {}}))
    params = {"kernel": jnp.arange(6.0).reshape(2, 3)}
    there = {
        key: value
        for key, value in RECORDED.items()
        if key not in ("attention", "async_linear", "fused", "remat", "remat_keep", "unroll")
    }
    found = fingerprints({"teacher": TeacherConfig(workdir=str(tmp_path))}, {"teacher": params})
    assert found == {"teacher": fingerprint(params, there)}


TINY = '''
"""A family in one file."""

import dataclasses
from typing import Literal

from distill.nn.network import Network
from distill.nn.variants import Shape, VariantConfig
from distill.nn.vit import VisionTransformer, ViTConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class TinyConfig(VariantConfig, ViTConfig):
    """A tiny one."""

    shapes = {"one": Shape(width=8, depth=1, mlp_dim=8, heads=1)}
    family: Literal["tiny"] = "tiny"
    layer_scale: bool = True

    def build(self) -> Network:
        """The network."""
        return Network(self, VisionTransformer)
'''


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A file that is added to `students`."""
    import students

    (tmp_path / "tiny.py").write_text(TINY)
    monkeypatch.setattr(students, "__path__", [*students.__path__, str(tmp_path)])
    modules_in.cache_clear()
    yield
    sys.modules.pop("students.tiny")
    del students.tiny
    modules_in.cache_clear()


def test_a_family_is_one_file(tiny):
    config = resolve(ModelConfig, {"family": "tiny", "variant": "one/4", "image_size": 8})
    assert config.layer_scale and config.width == 8
    network = config.with_classes(3).network()
    params = network.init(jax.random.key(0))
    logits = network.apply(params, np.zeros((2, 8, 8, 3), np.float32)).logits
    assert logits.shape == (2, 3)
    assert config.facts["depth"] == 1


def test_models_of_one_architecture_agree_whatever_they_are_called(tmp_path):
    small = dict(width=16, depth=1, mlp_dim=32, heads=2, image_size=8, num_classes=3)
    recorded = vit_g.configure("g/4", **small)
    (tmp_path / "config.json").write_text(json.dumps({"model": to_dict(recorded), "data": {}}))
    mesh = make_mesh(MeshConfig())
    for expected, message in [
        (vit.configure("S/4", **small), "no checkpoint"),
        (vit.configure("S/4", **small, registers=2), "registers is 0, expected 2"),
        (vit_22b.configure("22B/4", **small), "qk_norm is False, expected True"),
    ]:
        with pytest.raises(UserError, match=message):
            open_model(tmp_path, mesh, expected=expected)
