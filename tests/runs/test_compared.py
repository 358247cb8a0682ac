"""What is checked of models before any of them is evaluated."""

import json

import numpy as np
import pytest
from support import run_command

from distill.analysis.prediction_files import write_predictions
from distill.analysis.predictions import Predictions
from distill.errors import UserError
from distill.evaluate.calibration import CalibrationConfig
from distill.evaluate.subgroups import SubgroupsConfig
from distill.runs import compared
from distill.runs.compared import compare
from distill.runs.evaluated import kept
from distill.train.workdir import is_run, read_config


@pytest.fixture
def predictions(tmp_path):
    file = tmp_path / "theirs.npz"
    write_predictions(
        file,
        Predictions(
            scores=np.eye(2),
            class_names=("a", "b"),
            labels=np.arange(2),
            names=np.array(["x", "y"]),
        ),
    )
    return file


@pytest.fixture
def published(tmp_path):
    """A directory as transformers writes it, but for the weights."""
    directory = tmp_path / "published"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps({"model_type": "vit"}))
    return directory


def test_a_published_models_config_is_not_a_runs(published):
    assert not is_run(published)
    with pytest.raises(UserError, match="is not the workdir of a run: its config"):
        read_config(published)


def test_every_model_is_checked_before_one_is_measured(
    published, predictions, tmp_path, monkeypatch
):
    monkeypatch.setattr(compared, "measure_predictions", lambda *_: pytest.fail("too early"))
    evals = {"sure": CalibrationConfig(source="digits", held_out=0.0)}
    models = {"theirs": predictions, "w": published}
    with pytest.raises(UserError, match=r"^w: .*published should hold one"):
        compare(models, evals, tmp_path / "out")
    with pytest.raises(UserError, match=r"^w: .*give config\.evals\.sure\.source"):
        compare(models, {"sure": CalibrationConfig(held_out=0.0)}, tmp_path / "out")


def test_an_error_names_the_model_and_the_evaluation(predictions, tmp_path):
    with pytest.raises(UserError, match=r"^theirs: sexes: .*no column 'sex'"):
        compare({"theirs": predictions}, {"sexes": SubgroupsConfig(group="sex")}, tmp_path)


def test_figures_are_kept_in_a_folder_that_is_made(predictions, tmp_path):
    file = tmp_path / "new" / "lines.jsonl"
    sure = ("kind=calibration", "held_out=0.0")
    done = run_command(
        "evaluate",
        f"--predictions={predictions}",
        f"--output={file}",
        *(f"--config.evals.sure.{one}" for one in sure),
    )
    assert done.returncode == 0, done.stderr
    assert [line["name"] for line in kept(file)] == ["sure"]
