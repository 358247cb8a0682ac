"""`distill predict`: a model's scores of images in a file."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from distill.analysis.prediction_files import read_predictions
from distill.errors import RunFailed, UserError
from distill.evaluate.of_images import OfImagesConfig
from distill.evaluate.predicted import Measured, PredictionsConfig, Predictor
from distill.evaluate.split import SplitConfig
from distill.runs import predicted
from distill.runs.evaluated import evaluate, evaluate_predictions
from distill.runs.predicted import predict
from distill.runs.weights import WeightsConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class RightConfig(PredictionsConfig):
    """How many are right."""

    kind: Literal["right-in-tests"] = "right-in-tests"

    def measure(self, predictions):
        right = predictions.scores.argmax(axis=1) == predictions.labels
        return Measured({"right": float(right.mean()), "nothing": None}, (f"n = {right.size}",))


@pytest.fixture(scope="module")
def written(teacher_workdir, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("predictions") / "p.npz"
    return predict(teacher_workdir, OfImagesConfig(), output, batch_size=64)


def test_predictions_are_those_that_the_evaluation_measures(teacher_workdir, written, capsys):
    found = read_predictions(written)
    evaluated = evaluate(teacher_workdir, {"": SplitConfig()}, batch_size=64)
    assert found.scores.shape == (360, 10) and found.class_names == tuple("0123456789")
    right = found.scores.argmax(axis=1) == found.labels
    assert right.mean() == pytest.approx(evaluated["test/accuracy"], abs=1e-6)
    own = -np.log(found.probabilities()[np.arange(360), found.labels]).mean()
    assert own == pytest.approx(evaluated["test/cross_entropy"], abs=1e-4)
    assert found.about["step"] == 10 and found.about["data"][0]["images"] == 360


def test_a_file_is_evaluated_as_the_model_is(teacher_workdir, written, tmp_path, capsys):
    of_model = evaluate(teacher_workdir, {"test": RightConfig()}, batch_size=64)
    of_file = evaluate_predictions(written, {"test": RightConfig()}, output=tmp_path / "lines")
    assert of_model == of_file and set(of_file) == {"test/right"}
    printed = capsys.readouterr().out
    assert printed.count("n = 360") == 2 and f"360 images of {written}" in printed
    assert '"predictions"' in (tmp_path / "lines").read_text()


def test_what_needs_a_model_is_refused_of_a_file(written):
    with pytest.raises(UserError, match="'val' is of kind split, which needs a model"):
        evaluate_predictions(written, {"val": SplitConfig()})


def test_an_interrupted_prediction_goes_on_where_it_was(
    teacher_workdir, written, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(predicted, "_PART", 100)
    rows, starts = Predictor.rows, []

    def some(self, params, start=0):
        starts.append(start)
        for number, one in enumerate(rows(self, params, start)):
            if number == 4 and not start:
                raise KeyboardInterrupt
            yield one

    monkeypatch.setattr(Predictor, "rows", some)
    output = tmp_path / "p.npz"
    with contextlib.suppress(KeyboardInterrupt):
        predict(teacher_workdir, OfImagesConfig(), output, batch_size=40)
    assert not output.exists()
    predict(teacher_workdir, OfImagesConfig(), output, batch_size=40)
    assert starts == [0, 120] and "goes on after 120 of 360 images" in capsys.readouterr().err
    whole, again = read_predictions(written), read_predictions(output)
    np.testing.assert_allclose(again.scores, whole.scores, atol=1e-5)
    assert again.names.tolist() == whole.names.tolist()
    assert again.columns["index"].tolist() == list(range(360))


def test_images_of_other_classes_keep_their_classes_names(teacher_workdir, image_folder, tmp_path):
    images = OfImagesConfig(source=f"folder:{image_folder}", split="validation")
    found = read_predictions(predict(teacher_workdir, images, tmp_path / "p.npz", batch_size=8))
    assert found.labels.tolist() == [-1] * 6
    assert found.columns["class"].tolist() == ["dark", "dark", "grey", "grey", "light", "light"]
    assert found.names[0] == "validation/dark/0.jpg"


def test_images_without_labels_are_predicted(teacher_workdir, image_folder, tmp_path):
    images = OfImagesConfig(source=f"images:{image_folder}", split="train")
    found = read_predictions(predict(teacher_workdir, images, tmp_path / "p.npz", batch_size=8))
    assert len(found) == 36 and set(found.labels) == {-1}


def test_logits_that_are_not_finite_are_refused_with_the_images_name(
    teacher_workdir, tmp_path, monkeypatch
):
    from distill.evaluate.outputs import Outputs

    called = Outputs.__call__

    def broken(self, params, loader):
        for rows in called(self, params, loader):
            rows.values[3, 1] = np.nan
            yield rows

    monkeypatch.setattr(Outputs, "__call__", broken)
    with pytest.raises(RunFailed, match=r"the logits of digits image .* are not finite"):
        predict(teacher_workdir, OfImagesConfig(), tmp_path / "p.npz", batch_size=64)


@pytest.mark.parametrize(
    ("model", "output", "message"),
    [
        (None, "p.txt", "p.txt must end in one of .npz, .parquet"),
        ("weights", "p.npz", "published weights come without data"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_opened(
    teacher_workdir, tmp_path, model, output, message
):
    model = WeightsConfig(path=str(tmp_path)) if model else teacher_workdir
    with pytest.raises(UserError, match=message):
        predict(model, OfImagesConfig(), tmp_path / output)


def test_a_finished_file_of_other_images_is_not_replaced(teacher_workdir, written):
    with pytest.raises(UserError, match=r"another model, of other images.*another --output"):
        predict(teacher_workdir, OfImagesConfig(split="train"), written, batch_size=64)
    assert read_predictions(written).about["data"][0]["split"] == "test"


def test_places_in_the_source_are_int64(written):
    assert read_predictions(written).columns["index"].dtype == np.int64
