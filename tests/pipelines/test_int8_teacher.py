"""A teacher whose forward pass is in int8."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from support import distill_config, final_params, without_timings

from distill.config import ConfigError, resolve, to_dict
from distill.data import Store
from distill.errors import UserError
from distill.runs.pairs import PairTrainingConfig
from distill.runs.storing import StoreTargetsConfig
from distill.runs.teachers import load_teachers
from distill.train import metrics
from distill.train.run import open_mesh
from distill.train.workdir import Workdir, read_config, read_teachers
from pipelines import distill_student, store_targets


@pytest.fixture(scope="module")
def config(teacher_workdir):
    return distill_config(teacher_workdir, teacher__quantize="int8")


@pytest.fixture(scope="module")
def live(config, tmp_path_factory):
    path = tmp_path_factory.mktemp("live")
    distill_student.run(config, Workdir(path), overview=False)
    return path


def test_the_run_says_so_and_learns_another_function(config, live, teacher_workdir):
    assert read_config(live)["teacher"]["quantize"] == "int8"
    known = read_teachers(live)["teacher"]
    assert known["quantize"] == "int8"
    exact = distill_config(teacher_workdir)
    teachers, params = load_teachers(exact.every_teacher, open_mesh(exact))
    found, rounded = load_teachers(config.every_teacher, open_mesh(config))
    assert known["fingerprint"] != exact.teacher.fingerprint(params["teacher"], exact.teacher.dtype)
    kinds = {leaf.dtype.name for leaf in jax.tree.leaves(rounded["teacher"]["encoder"]["blocks"])}
    assert kinds == {"int8", "float32"}
    images = np.random.default_rng(0).uniform(0, 255, (8, 8, 8, 1)).astype(np.float32)

    def logits(teacher, params):
        return teacher.network.apply(params, teacher.network.prepare(images)).logits

    ours = logits(found["teacher"], rounded["teacher"])
    theirs = logits(teachers["teacher"], params["teacher"])
    assert 0 < np.abs(ours - theirs).max() < 0.2 * np.abs(theirs).max()


def test_a_resumed_run_ends_as_one_that_was_not_interrupted(config, live, tmp_path):
    shutil.copytree(live / "checkpoints" / "5", tmp_path / "checkpoints" / "5")
    for file in live.iterdir():
        if file.is_file() and file.name != "summary.json":
            shutil.copy(file, tmp_path)
    distill_student.run(config, Workdir(tmp_path), overview=False)
    jax.tree.map(np.testing.assert_array_equal, final_params(tmp_path), final_params(live))
    last = [without_timings(metrics.read(path))[-1] for path in (tmp_path, live)]
    assert last[0] == last[1]


def test_a_run_with_the_teacher_as_it_is_does_not_go_on_in_its_workdir(config, live):
    exact = dataclasses.replace(config, teacher=dataclasses.replace(config.teacher, quantize=None))
    with pytest.raises(UserError, match="quantize"):
        distill_student.run(exact, Workdir(live), overview=False)


def test_what_it_says_is_stored_and_replayed_as_its_own(config, live, tmp_path):
    tree = to_dict(config) | {"store": dict(dtype="float32")}
    store_targets.run(resolve(StoreTargetsConfig, tree), Workdir(tmp_path / "targets"))
    assert Store(tmp_path / "targets").contents.about["teachers"]["teacher"]["quantize"] == "int8"
    replay = dataclasses.replace(config, targets=str(tmp_path / "targets"))
    distill_student.run(replay, Workdir(tmp_path / "replay"), overview=False)
    replayed = final_params(tmp_path / "replay")
    jax.tree.map(np.testing.assert_array_equal, replayed, final_params(live))


def test_a_locked_tower_is_no_teacher_to_be_rounded():
    tower = dict(family="vit", variant="mu/4", image_size=8)
    tree = dict(
        model=dict(
            family="pair", text=dict(width=8, depth=1, mlp_dim=8, heads=1, vocab=9, length=4)
        ),
        teacher=dict(workdir="nowhere", quantize="int8", model=tower),
        data=dict(source="digits", captions=dict(path="no.json", family="siglip2", length=4)),
        optimizer=dict(name="adam"),
        schedule=dict(kind="cosine", warmup_steps=1),
        train=dict(batch_size=8, total_steps=2),
    )
    with pytest.raises(ConfigError, match=r"teacher\.quantize"):
        resolve(PairTrainingConfig, tree)
