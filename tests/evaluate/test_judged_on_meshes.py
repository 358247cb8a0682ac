"""What predictions are judged to be depends neither on batches nor on devices."""

import json
import os
from pathlib import Path

import pytest
from support import REPOSITORY, run_python

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    """By devices and batch, what each kind finds."""
    script = Path(__file__).with_name("judged_on_eight_devices.py")
    folder = tmp_path_factory.mktemp("judged")
    done = run_python(script, folder, env=os.environ | {"PYTHONPATH": str(REPOSITORY)})
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert [*found] == ["1 × 1", "1 × 3", "1 × 16", "1 × 160", "8 × 16"]
    return found


# What is counted is the same to the last image; these are of scores, float32, or fitted to them.
OF_SCORES = ("ece", "ece_l2", "adaptive_ece", "adaptive_ece_l2", "nll", "brier", "temperature")


def _of_scores(name: str) -> bool:
    return name.rpartition("/")[2] in OF_SCORES or "/debiased/" in name


@pytest.mark.parametrize(
    "kind",
    ["label_space", "corruptions", "calibration", "fairness", "head", "subgroups",
     "human_alignment"],
)  # fmt: skip
def test_figures_are_the_same_for_all_batches_and_devices(facts, kind):
    first, *others = (one[kind] for one in facts.values() if kind in one)
    assert len(others) == (3 if kind == "head" else 4)
    # Neither all images nor none, or it would not tell.
    assert any(0 < value < 1 for name, value in first["metrics"].items() if "accuracy" in name)
    for other in others:
        assert other["counts"] == first["counts"]
        assert other["metrics"].keys() == first["metrics"].keys()
        for name, value in first["metrics"].items():
            tolerance = 1e-5 if _of_scores(name) else 0
            assert other["metrics"][name] == pytest.approx(value, abs=tolerance, rel=0), name
