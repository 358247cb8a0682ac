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


def test_features_are_the_same_on_every_mesh(facts):
    assert facts["images"] == [101, 101] and facts["same_labels"]
    assert facts["difference"] < 1e-4 < 0.01 < facts["spread"]


def test_scores_are_the_same_on_every_mesh(facts):
    # Rounding may move an image that lies on a border.
    assert facts["four"] == pytest.approx(facts["one"], abs=1.5 / 101)
    assert {"fewshot/2", "knn/3", "probe/accuracy"} < facts["one"].keys()
