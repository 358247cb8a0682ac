from pathlib import Path

import pytest
from small_config import problems

from distill.config import load_file
from distill.optim import OptimizerConfig, ScheduleConfig
from pipelines.pretrain import PretrainConfig
from students import vit

DIGITS = Path(__file__).resolve().parents[2] / "configs" / "pretrain" / "digits.py"


def test_every_mistake_in_a_pretraining_config_is_reported_at_once():
    overrides = {
        "model.variant": "nope/2",
        "model.channels": "2",
        "train.batch_size": "many",
        "train.log_evry": "5",
        "data.view.crop_area": "(0.5, 2.0)",
        "optimizer.learning_rate": "-1",
        "schedule.kind": "cosin",
        "mesh.data": "0",
    }
    found = problems(load_file(str(DIGITS)), overrides, PretrainConfig)
    for part in (
        "config.model.channels is",
        "config.train.batch_size is 'many'",
        "did you mean config.train.log_every?",
        "config.data.view.crop_area is",
        "config.optimizer.learning_rate is -1.0; expected number from 1e-18",
        "config.schedule.kind is 'cosin'",
        "config.mesh: mesh sizes",
    ):
        assert sum(part in problem for problem in found) == 1, part


def test_unknown_variant_is_a_problem_of_the_model():
    (problem,) = problems(load_file(str(DIGITS)), {"model.variant": "nope/2"}, PretrainConfig)
    assert problem.startswith("config.model: ") and "nope/2" in problem


def test_negative_seed_is_refused():
    # NumPy's and Grain's generators, which it is handed to, accept none.
    (problem,) = problems(load_file(str(DIGITS)), {"seed": "-1"}, PretrainConfig)
    assert "seed" in problem


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: vit.configure("B/16", head="gpa"), "head must be one of 'map', 'gap', 'cls'"),
        (lambda: vit.configure("B/16", remat="dot"), "remat must be one of"),
        (lambda: OptimizerConfig(name="adamw"), "name must be one of 'adafactor', 'adam'"),
        (lambda: ScheduleConfig(kind="cosin"), "kind must be one of"),
    ],
)
def test_choices_are_checked_without_a_config_file_too(build, message):
    with pytest.raises(ValueError, match=message):
        build()
