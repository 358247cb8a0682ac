"""What is found of sequences does not depend on devices."""

import json
import os
from pathlib import Path

import pytest
from support import REPOSITORY, run_python


@pytest.mark.slow
def test_figures_of_clips_and_objects_are_the_same_on_eight_devices(tmp_path):
    script = Path(__file__).with_name("sequences_on_eight_devices.py")
    places = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    done = run_python(script, tmp_path, env=os.environ | {"PYTHONPATH": places})
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    one, eight = found["1"], found["8"]
    assert one.keys() == eight.keys() == {"clips", "objects"}
    for name, metrics in one.items():
        assert eight[name] == pytest.approx(metrics, abs=1e-5, rel=0)
    assert 0 < one["objects"]["objects/j"] < 1 and one["clips"]["clips/accuracy"] > 0.5
