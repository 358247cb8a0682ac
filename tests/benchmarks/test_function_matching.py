"""The study's ways to teach: what they share, and what is measured of their students."""

import importlib.util

import numpy as np
import pytest
from support import REPOSITORY, pretrain_config, run_python

from distill.config import to_dict
from distill.parallel import MeshConfig, make_mesh
from distill.runs.opened import open_model
from distill.tasks.classification import ClassificationConfig
from distill.tasks.matching.config import MatchingConfig

pytestmark = pytest.mark.benchmark

SCRIPT = "benchmarks/function_matching.py"
# Sections of a config that only labels or only teachers have, or that differ between them.
OF_A_WAY = {
    *("evals", "loss", "matching", "start", "students", "targets", "teacher", "teachers"),
    "tokenizer",
}


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("function_matching", REPOSITORY / SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ways_differ_in_what_is_matched_and_in_nothing_else(study, tmp_path):
    configs = {way: study.config_of(way, tmp_path, 200, 400, seed=3) for way in study.WAYS}
    shared = [{k: v for k, v in to_dict(c).items() if k not in OF_A_WAY} for c in configs.values()]
    assert all(one == shared[0] for one in shared)
    assert shared[0]["data"]["train_images"] == 200 and shared[0]["seed"] == 3

    assert {way: configs[way].loss for way in study.ON_LABELS} == {
        "labels alone": ClassificationConfig(kind="softmax", mixup=0.0),
        "labels and mixup": ClassificationConfig(kind="softmax", mixup=1.0),
    }
    matched = {way: c.matching for way, c in configs.items() if way not in study.ON_LABELS}
    temperature = matched["consistent"].temperature
    assert matched == {
        way: MatchingConfig(temperature=temperature, teacher_view=view, mixup=mixup)
        for way, view, mixup in (
            ("fixed teacher", "fixed", 0.0),
            ("independent noise", "independent", 0.0),
            ("consistent", "same", 0.0),
            ("function matching", "same", 1.0),
        )
    }


def test_students_are_measured_on_all_held_out_images(study, teacher_workdir):
    """A model with the teacher's own shape and parameters agrees with it entirely."""
    config = study.teacher_config()
    opened = open_model(teacher_workdir, make_mesh(MeshConfig()))
    network, params = opened.network, opened.params
    model = pretrain_config().model
    accuracy, agreement, kl = study.HeldOut(model, config.data, teacher_workdir).measure(params)
    right = 0
    for split in ("validation", "test"):
        source = config.data.open(split, channels=1)
        images = np.stack([source.read(i)["image"] for i in range(len(source))])
        logits = network.apply(params, network.prepare(images)).logits
        right += np.sum(np.argmax(logits, axis=-1) == source.labels)
    assert accuracy == pytest.approx(100 * right / 600)
    assert (agreement, kl) == (100.0, pytest.approx(0.0, abs=1e-4))


def test_a_single_seed_has_no_spread(tmp_path):
    done = run_python(SCRIPT, f"--workdir={tmp_path}", "--seeds=1")
    assert done.returncode == 2 and "--seeds" in done.stderr and "Traceback" not in done.stderr
