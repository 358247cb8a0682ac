"""Students with what published models have: registers, a gate, layer scale, rotary positions."""

import jax
import numpy as np
from support import distill_config

from distill.parallel import MeshConfig, make_mesh
from distill.runs.opened import open_model
from distill.train.workdir import Workdir, read_config
from pipelines import distill_student

CHOICES = {
    "registers": 2,
    "gated": True,
    "activation": "silu",
    "layer_scale": True,
    "position_embedding": "rotary",
    "norm_epsilon": 1e-5,
}


def test_a_student_has_any_choice_of_a_vision_transformer(teacher_workdir, tmp_path):
    keys = {f"model__{name}": value for name, value in CHOICES.items()}
    config = distill_config(
        teacher_workdir, **keys, train__total_steps=4, schedule__warmup_steps="1"
    )
    distill_student.run(config, Workdir(tmp_path), overview=False)
    recorded = read_config(tmp_path)["model"]
    assert {name: recorded[name] for name in CHOICES} == CHOICES
    opened = open_model(tmp_path, make_mesh(MeshConfig()))
    network, params = opened.network, opened.params
    assert network.config == config.model
    fresh = config.model.network().init(jax.random.key(0))
    assert jax.tree.structure(fresh) == jax.tree.structure(params)
    assert params["registers"].shape == (1, 2, config.model.width)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    assert np.any(np.asarray(params["registers"]) != 0)
