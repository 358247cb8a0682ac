"""What is left of one model's shares in others, and of which images that is said."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from distill.analysis.predictions import Predictions
from distill.evaluate.calibration import CalibrationConfig
from distill.report.compared import rows, warnings
from distill.runs.evaluated import measure_predictions
from distill.runs.retained import other_images, retained

DATA = {"source": "digits", "split": "test", "images": 8, "fingerprint": "a"}


def _model(name, correct, of=8, data=None):
    line = {
        "name": "clean",
        "metrics": {"clean/accuracy": correct / of},
        "details": {"counts": {"accuracy": [correct, of]}},
    }
    return {"name": name, "evaluations": {"clean": line | ({"data": [data]} if data else {})}}


def _result(*models):
    return {"models": models, "retained": retained(models), "other_images": other_images(models)}


def test_nothing_kept_is_0_of_100_and_all_kept_is_not_sure():
    result = _result(_model("teacher", 8), _model("none", 0), _model("all", 8))
    (line,) = rows(result)[1]
    assert line[4].startswith("0.0%\n0.0% to ")
    low, high = result["retained"]["clean/accuracy"]["all"]["interval"]
    assert low < 0.7 and high > 1.4


def test_nothing_can_be_kept_of_nothing():
    assert retained([_model("teacher", 0), _model("student", 3)]) == {}


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (DATA, True),
        (DATA | {"fingerprint": "numbered otherwise"}, True),
        (DATA | {"source": "moved"}, True),
        (DATA | {"split": "train", "fingerprint": "b"}, False),
        (DATA | {"images": 7, "fingerprint": "b"}, False),
        (None, True),
        ({"of another": "program"}, True),
    ],
)
def test_a_ratio_is_of_the_same_images(other, same):
    result = _result(_model("teacher", 8, data=DATA), _model("student", 4, data=other))
    assert bool(result["retained"]) == same
    assert len(warnings(result)) == (not same)
    assert (rows(result)[1][0][3] == "other images") == (not same)


@pytest.mark.parametrize(
    ("other", "typed"),
    [
        (DATA | {"split": "validation+test", "images": 9, "fingerprint": "b"}, True),
        (DATA | {"source": "others", "split": "test", "images": 9, "fingerprint": "b"}, False),
        (DATA | {"images": 9, "fingerprint": "b"}, False),
    ],
)
def test_a_split_that_both_have_is_named(other, typed):
    models = [_model("teacher", 8, data=DATA), _model("student", 4, data=other)]
    for one in models:
        one["evaluations"]["clean"]["config"] = {"kind": "split", "split": None}
    (said,) = warnings(_result(*models))
    assert ("--config.evals.clean.split=test evaluates all on the same" in said) == typed


def test_of_files_that_say_nothing_of_their_images_their_number_is_compared():
    result = _result(_model("teacher", 8, data=DATA), _model("student", 4, of=9))
    assert not result["retained"]
    assert warnings(result) == [
        "warning: clean: student is of other images than teacher, 9 images, not 8 of digits test; "
        "nothing is said to be retained"
    ]


def test_a_file_of_predictions_says_what_it_ignores():
    predictions = Predictions(
        scores=np.eye(2), class_names=("a", "b"), labels=np.arange(2), names=np.array(["x", "y"])
    )
    asked = CalibrationConfig(source="digits", split="test", held_out=0.0)

    def said(about):
        given = dataclasses.replace(predictions, about=about)
        return [
            one
            for one in measure_predictions("a", asked, given, Path("f.npz"))[1]
            if "ignored" in one
        ]

    ignored = "ignored: predictions are of the file's images"
    assert said({}) == [f"warning: source=digits and split=test {ignored}"]
    assert said({"data": [DATA]}) == []
    other = {"data": [DATA | {"split": "train"}]}
    assert said(other) == [f"warning: split=test {ignored}, of digits train"]
