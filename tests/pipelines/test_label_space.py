"""Sets of other classes than a model's, measured of a run by a map."""

import json

import numpy as np
import pytest

from distill.analysis.label_spaces.data_files import imagenet_wnids
from distill.analysis.label_spaces.imagenet import real_labels
from distill.analysis.predictions import Predictions
from distill.errors import UserError
from distill.evaluate.label_space import LabelSpaceEvaluation
from distill.runs.evaluated import evaluate
from distill.runs.subject import open_subject


@pytest.fixture
def set_of_two(image_folder, tmp_path):
    """Folders taken for digits: dark for 0 or 1, light for 7; grey does not count."""
    file = tmp_path / "map.json"
    file.write_text(json.dumps({"dark": ["0", "1"], "light": "7", "grey": []}))
    return f"folder:{image_folder}", str(file)


def test_a_map_says_what_counts_as_right(teacher_workdir, set_of_two, capsys):
    source, label_map = set_of_two
    config = LabelSpaceEvaluation(source=source, split="validation", label_space=label_map)
    found = evaluate(teacher_workdir, {"own": config}, batch_size=8)
    assert 0 <= found["own/among_all/accuracy"] <= found["own/accuracy"] <= 1
    assert "4 images count" in capsys.readouterr().out


def test_real_counts_what_the_images_name_says():
    first = [place for place, labels in enumerate(real_labels()) if labels][:2]
    nothing = real_labels().index(())
    places = [*first, nothing]
    names = np.array([f"val/ILSVRC2012_val_{place + 1:08d}.JPEG" for place in places])
    scores = np.zeros((3, 1000), np.float32)
    scores[0, real_labels()[first[0]][0]] = 9
    scores[1, (max(real_labels()[first[1]]) + 1) % 1000] = 9
    predictions = Predictions(
        scores=scores,
        class_names=imagenet_wnids(),
        labels=np.full(3, -1),
        names=names,
    )
    config = LabelSpaceEvaluation(label_space="real")
    measured = config.measure(predictions)
    assert measured.figures.keys() == {*config.figures}
    assert measured.details["counts"]["accuracy"] == [1, 2]
    assert any("46,837" in line for line in measured.lines)


def test_the_sets_crop_is_taken_unless_another_is_given(teacher_workdir):
    subject = open_subject(teacher_workdir).subject
    asked = dict(source="digits", split="test", label_space="imagenet_a")
    assert LabelSpaceEvaluation(**asked).shown("a", subject).view.crop == 0.75
    square = LabelSpaceEvaluation(**asked, view="square875").shown("a", subject).view
    assert (square.resize, square.crop) == ("squash", 0.875)
    assert LabelSpaceEvaluation(**asked, crop=1.0).shown("a", subject).view.crop == 1.0
    with pytest.raises(ValueError, match="view says crop and resize already"):
        LabelSpaceEvaluation(**asked, view="square875", crop=1.0)


def test_a_model_of_other_classes_is_told_what_to_give(teacher_workdir, set_of_two):
    config = LabelSpaceEvaluation(
        source=set_of_two[0], split="validation", label_space="imagenet_r"
    )
    with pytest.raises(UserError, match="model_classes"):
        evaluate(teacher_workdir, {"r": config}, batch_size=8)
