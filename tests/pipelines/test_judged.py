"""Evaluations of predictions: of a run, and of a file."""

import csv

import numpy as np
import pytest

from distill.analysis.calibration import top_label_calibration
from distill.analysis.label_spaces.data_files import imagenet_wnids
from distill.analysis.prediction_files import write_predictions
from distill.analysis.predictions import Predictions
from distill.errors import UserError
from distill.evaluate.calibration import CalibrationConfig
from distill.evaluate.fairness import FairnessConfig
from distill.evaluate.label_space import LabelSpaceEvaluation
from distill.evaluate.split import SplitConfig
from distill.evaluate.subgroups import SubgroupsConfig
from distill.runs.evaluated import evaluate, evaluate_predictions


def _predictions(count: int = 400, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    scores = rng.normal(size=(count, 2)) + 1.5 * np.eye(2)[labels]
    group = np.where(rng.random(count) < 0.4, "a", "b")
    return Predictions(
        scores=scores.astype(np.float32),
        class_names=("no", "yes"),
        labels=labels,
        names=np.array([f"{number:04d}.jpg" for number in range(count)]),
        columns={"group": group},
    )


def test_calibration_of_a_run_is_that_of_its_split(teacher_workdir):
    evals = {"c": CalibrationConfig(held_out=0.0), "test": SplitConfig(split="test")}
    found = evaluate(teacher_workdir, evals)
    assert found["c/accuracy"] == pytest.approx(found["test/accuracy"])
    assert found["c/ece"] == pytest.approx(found["test/calibration_error"], abs=1e-5)
    assert found["c/nll"] == pytest.approx(found["test/cross_entropy"], abs=1e-4)


def test_a_temperature_is_fitted_where_nothing_is_measured():
    predictions = _predictions()
    measured = CalibrationConfig(held_out=0.3).measure(predictions)
    fitted, scored = (int(text.replace(",", "")) for text in _numbers(measured.lines[0]))
    assert fitted + scored == 400 and 80 < fitted < 160
    assert measured.figures["scaled/accuracy"] == measured.figures["accuracy"]
    assert measured.figures["scaled/nll"] != measured.figures["nll"]
    assert measured.details["counts"]["accuracy"][1] == scored


def _numbers(text):
    return [word for word in text.replace(",", " ").split() if word.isdecimal()]


def test_a_file_of_some_of_imagenets_classes_says_that_all_compete(tmp_path, capsys):
    wnids, count = imagenet_wnids(), 20
    scores = np.random.default_rng(0).normal(size=(count, 1000)).astype(np.float32)
    predictions = Predictions(
        scores=scores,
        class_names=wnids,
        labels=np.arange(count),
        names=np.array([f"{wnid}/one.jpg" for wnid in wnids[:count]]),
    )
    write_predictions(tmp_path / "p.npz", predictions)
    evaluate_predictions(tmp_path / "p.npz", {"c": CalibrationConfig(held_out=0)})
    assert "all 1,000 of the model's compete; kind=label_space" in capsys.readouterr().out
    evaluate_predictions(tmp_path / "p.npz", {"s": LabelSpaceEvaluation(label_space="imagenet")})
    assert "compete" not in capsys.readouterr().out


def test_without_held_out_images_all_are_measured():
    predictions = _predictions()
    found = CalibrationConfig(held_out=0).measure(predictions).figures
    assert found["ece"] == top_label_calibration(predictions).equal_width.error()
    assert "temperature" not in found


def test_subgroups_are_those_of_a_column_or_of_a_table(tmp_path):
    predictions = _predictions()
    right = predictions.scores.argmax(axis=1) == predictions.labels
    found = SubgroupsConfig(group="group").measure(predictions).figures
    own = {one: right[predictions.columns["group"] == one].mean() for one in "ab"}
    assert {one: found[f"accuracy/{one}"] for one in "ab"} == pytest.approx(own)
    assert found["accuracy_gap"] == pytest.approx(abs(own["a"] - own["b"]))
    assert found["worst_accuracy"] == pytest.approx(min(own.values()))
    with (tmp_path / "t.csv").open("w") as out:
        rows = zip(predictions.names, predictions.columns["group"], strict=True)
        csv.writer(out).writerows([("image", "side"), *rows])
    table = SubgroupsConfig(group="side", table=str(tmp_path / "t.csv"))
    assert table.measure(predictions).figures == found
    by_class = SubgroupsConfig().measure(predictions).figures
    assert {"accuracy/no", "accuracy/yes"} <= by_class.keys()


def test_small_groups_and_missing_columns_are_said():
    few = _predictions(count=50)
    assert "is mostly noise" in " ".join(SubgroupsConfig(group="group").measure(few).lines).replace(
        "are", "is"
    )
    with pytest.raises(UserError, match="no column 'gruop'; did you mean 'group'"):
        SubgroupsConfig(group="gruop").measure(few)


def test_debiased_decisions_are_nearer_to_parity():
    predictions = _predictions(count=4000)
    shifted = predictions.scores.copy()
    shifted[predictions.columns["group"] == "a", 1] += 2
    biased = Predictions(
        scores=shifted,
        class_names=predictions.class_names,
        labels=predictions.labels,
        names=predictions.names,
        columns=predictions.columns,
    )
    found = FairnessConfig(positive="yes", group="group", biases=(0.0, 0.1)).measure(biased)
    figures = found.figures
    assert figures["parity_gap"] > 0.15
    assert figures["debiased/0/parity_gap"] < 0.05
    assert figures["debiased/0/parity_gap"] < figures["debiased/0.1/parity_gap"] < 0.15
    assert {"tpr_gap", "fpr_gap", "ece", "accuracy/group=a"} <= figures.keys()
    assert "debiasers fitted to" in found.lines[0]


def test_celebas_partition_says_what_is_fitted_to_and_what_is_measured(tmp_path):
    predictions = _predictions(count=300)
    names = predictions.names.tolist()
    attributes = ["300", "Male Smiling"]
    attributes += [f"{n}  {'1' if i % 3 else '-1'} -1" for i, n in enumerate(names)]
    (tmp_path / "attr.txt").write_text("\n".join(attributes) + "\n")
    lines = (f"{name} {number % 3}" for number, name in enumerate(names))
    (tmp_path / "part.txt").write_text("\n".join(lines) + "\n")
    config = FairnessConfig(
        positive="yes",
        group="group",
        attributes=str(tmp_path / "attr.txt"),
        partition=str(tmp_path / "part.txt"),
    )
    found = config.measure(predictions)
    assert found.lines[0] == "debiasers fitted to 100 images, all else measured on 100"
    sex = FairnessConfig(positive="yes", group="Male", attributes=config.attributes)
    assert {"accuracy/Male=1", "accuracy/Male=-1"} <= sex.measure(predictions).figures.keys()


@pytest.mark.parametrize(
    ("config", "asked", "message"),
    [
        (CalibrationConfig, {"bins": 0}, "bins must be a whole number from 1"),
        (CalibrationConfig, {"held_out": 1.0}, "held_out must be a number from 0 to below 1"),
        (FairnessConfig, {"positive": "a", "group": "g", "gamma": 0.0}, "gamma must be"),
        (FairnessConfig, {"positive": "a", "group": "g", "biases": (2.0,)}, "biases must be"),
        (FairnessConfig, {"positive": "a", "group": "g", "held_out": 0.0}, "held_out must be"),
    ],
)
def test_impossible_values_are_refused(config, asked, message):
    with pytest.raises(ValueError, match=message):
        config(**asked)
