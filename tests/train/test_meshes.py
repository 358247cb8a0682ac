"""Training is the same function of its config on every mesh."""

import json
import os
from pathlib import Path

import pytest
from support import REPOSITORY, run_python

pytestmark = pytest.mark.slow

MESHES = ("(1, 8, 1)", "(1, 1, 8)", "(2, 2, 2)")


@pytest.fixture(scope="module")
def facts(teacher_workdir):
    """What a process with eight devices finds."""
    done = run_python(
        Path(__file__).with_name("on_eight_devices.py"),
        teacher_workdir,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), f"{REPOSITORY}/tests"])},
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["devices"] == 8
    return found


@pytest.mark.parametrize("pipeline", ["pretrain", "distil"])
def test_the_run_that_is_compared_learns(facts, pipeline):
    """Or else agreement on every mesh would show nothing."""
    losses = facts["losses"][pipeline]
    assert len(losses) == 10
    assert losses[-1] < 0.95 * losses[0]


@pytest.mark.parametrize(
    ("pipeline", "mesh"),
    [*(("pretrain", mesh) for mesh in MESHES), ("distil", "(1, 8, 1)"), ("distil", "(2, 2, 2)")],
)
def test_losses_are_those_of_one_device(facts, pipeline, mesh):
    assert facts[pipeline][mesh]["loss"] < 1e-5


def test_a_teacher_with_rules_of_its_own_teaches_the_same(facts):
    assert facts["rules"]["loss"] < 1e-5


def test_a_teacher_in_bfloat16_teaches_nearly_the_same(facts):
    assert 1e-5 < facts["bfloat16"]["loss"] < 0.1


@pytest.mark.parametrize("case", ["4 on (2, 2, 2)"])
def test_microbatches_make_the_same_update(facts, case):
    assert all(difference < 1e-5 for difference in facts["microbatches"][case].values())


def test_no_stack_of_layers_is_ever_gathered(facts):
    """Teacher and student put together one layer at a time."""
    assert 0 < facts["largest_gather"] < facts["smallest_stack"]


def test_a_loaded_teacher_lies_in_eighths(facts):
    loaded = facts["loaded"]
    for name, (shape, part, parts) in loaded.items():
        if 16 in shape:  # the width
            where = shape.index(16)
            assert part == [*shape[:where], 2, *shape[where + 1 :]], name
            assert parts == 8, name
    assert sum(parts == 8 for _, _, parts in loaded.values()) > len(loaded) / 2
