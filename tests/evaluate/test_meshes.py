"""A sharded model's features, and what is made of them, are those of one device."""

import json
import os
from pathlib import Path

import pytest
from support import REPOSITORY, run_python

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def facts():
    """What a process with four devices finds."""
    script = Path(__file__).with_name("on_four_devices.py")
    done = run_python(script, env=os.environ | {"PYTHONPATH": str(REPOSITORY)})
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["devices"] == 4 and found["cut"] > 10
    return found


def test_features_of_a_sharded_model_are_those_of_one_device(facts):
    assert facts["images"] == 203 and facts["same_labels"]
    assert facts["difference"] < 1e-4 < 0.01 < facts["spread"]


def test_a_probe_on_several_devices_is_that_of_scikit_learn(facts):
    assert facts["probe_difference"] < 1e-3 < 1.0 < facts["probe_spread"]


def test_similarity_on_several_devices_is_that_of_one(facts):
    assert facts["cka"] == pytest.approx(facts["cka_on_one"], rel=1e-3)
    assert 0.01 < facts["cka"] < 0.99


def test_which_class_is_taken_for_which_is_counted_alike_on_several_devices(facts):
    assert facts["confusion"] == facts["confusion_on_one"]
    assert len(facts["confusion"]) == 12
