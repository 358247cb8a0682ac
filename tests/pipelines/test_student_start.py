"""A student may start from trained weights instead of nothing."""

import dataclasses

import jax
import numpy as np
import pytest
from support import distill_config, final_params

from distill.config import ConfigError
from distill.errors import UserError
from distill.evaluate.transfer import TransferConfig
from distill.nn.adapt import CLASSIFIER
from distill.runs.start import StartConfig, starting_params
from distill.tasks.matching.projections import PROJECTIONS, with_projections
from distill.train import metrics
from distill.train.run import open_mesh
from distill.train.state import init_params
from distill.train.workdir import Workdir
from pipelines import distill_student, evaluate


@pytest.fixture(scope="module")
def first(teacher_workdir, tmp_path_factory):
    path = tmp_path_factory.mktemp("first")
    config = distill_config(teacher_workdir, train__total_steps=4, matching__losses__labels=1)
    distill_student.run(config, Workdir(path), overview=False)
    return path


@pytest.fixture(scope="module")
def config(teacher_workdir):
    return distill_config(
        teacher_workdir,
        seed=3,
        train__total_steps=2,
        train__evaluate_first=True,
        matching__losses__embedding_cosine=1,
    )


def without(tree, *names):
    return {name: module for name, module in tree.items() if name not in names}


@pytest.mark.parametrize("classifier", ["keep", "new"])
def test_what_is_new_is_drawn_as_without_a_start(config, first, classifier):
    mesh = open_mesh(config)
    network = config.model.network().placed(mesh)
    student = with_projections(network, {"embedding": {"teacher": 16}})
    start = StartConfig(workdir=str(first), classifier=classifier)
    params = starting_params(start, student, config, (PROJECTIONS,))()
    drawn, trained = init_params(student, config.seed), final_params(first)
    new = (PROJECTIONS, CLASSIFIER) if classifier == "new" else (PROJECTIONS,)
    assert params.keys() == drawn.keys()
    assert PROJECTIONS in params
    for name in new:
        jax.tree.map(np.testing.assert_array_equal, params[name], drawn[name])
    jax.tree.map(np.testing.assert_array_equal, without(params, *new), without(trained, *new))
    kernels = [tree["patch_embed"]["linear"]["kernel"] for tree in (params, drawn)]
    assert not np.array_equal(*kernels)


def test_before_its_first_step_a_student_is_what_it_started_from(config, first, tmp_path):
    start = StartConfig(workdir=str(first), classifier="keep")
    begun = dataclasses.replace(config, start=start)
    distill_student.run(begun, Workdir(tmp_path), overview=False)
    row, summary = metrics.read(tmp_path)[0], Workdir(first).summary
    assert row["step"] == 0
    for name in ("val/accuracy", "val/cross_entropy", "val/kl"):
        assert row[name] == summary[name]


def test_another_architecture_is_no_start(config, first, tmp_path):
    wider = dataclasses.replace(config.model, width=32)
    begun = dataclasses.replace(config, model=wider, start=StartConfig(workdir=str(first)))
    with pytest.raises(ConfigError, match="the trained model is another one"):
        distill_student.run(begun, Workdir(tmp_path), overview=False)


@pytest.mark.slow
def test_a_student_without_a_classifier_is_taught_embeddings(config, tmp_path):
    """And is of use to what asks for features alone."""
    losses = dataclasses.replace(config.matching.losses, kl=0.0)
    bare = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, num_classes=0),
        matching=dataclasses.replace(config.matching, losses=losses),
    )
    trained = distill_student.run(bare, Workdir(tmp_path), overview=False)
    scores = {name for name in trained.summary if "/" in name}
    assert scores == {"val/cka", "views/cka", "test/cka"}
    assert CLASSIFIER not in trained.params
    probed = evaluate.run(tmp_path, {"transfer": TransferConfig(shots=(5,), seeds=(0,))})
    assert 0 < probed["fewshot/5"] <= 1
    for term, message in {"kl": "no classifier", "labels": "needs a student with classes"}.items():
        asking = dataclasses.replace(
            bare,
            matching=dataclasses.replace(
                bare.matching, losses=dataclasses.replace(losses, **{term: 1.0})
            ),
        )
        with pytest.raises(UserError, match=message):
            distill_student.run(asking, Workdir(tmp_path / term))
