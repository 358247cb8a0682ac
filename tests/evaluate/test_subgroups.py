"""The evaluation of kind `subgroups`, of predictions alone."""

import numpy as np
import pytest
from support import untold

from distill.analysis.predictions import Predictions
from distill.errors import UserError
from distill.evaluate.subgroups import SubgroupsConfig


def _predictions(labels, names=("owl", "crane", "crane"), **columns):
    labels = np.array(labels)
    return Predictions(
        scores=np.eye(3)[labels],
        class_names=names,
        labels=labels,
        names=np.array([f"image {number}" for number in range(len(labels))]),
        columns={name: np.array(column) for name, column in columns.items()},
    )


def test_classes_of_one_name_are_no_groups():
    with pytest.raises(UserError, match="2 classes are called 'crane', so that groups by label"):
        SubgroupsConfig().measure(_predictions([0, 1, 2]))
    figures = SubgroupsConfig().measure(_predictions([0, 1])).figures
    assert {"accuracy/owl", "accuracy/crane"} < figures.keys()
    assert not untold(figures, SubgroupsConfig().figures)


def test_an_image_without_a_group_is_named_by_its_place_in_the_file():
    predictions = _predictions([-1, 0, 1], group=[0.0, 1.0, np.nan])
    with pytest.raises(UserError, match="the predictions, line 3: group is empty"):
        SubgroupsConfig(group="group").measure(predictions)


def test_spaces_around_a_group_are_no_other_group():
    figures = SubgroupsConfig(group="sex").measure(_predictions([0, 0], sex=["m", "m "])).figures
    assert [name for name in figures if name.startswith("accuracy/")] == ["accuracy/m"]
