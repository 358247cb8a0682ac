"""Runs on images that have several classes each."""

import numpy as np
import pytest
from support import distill_config, pretrain_config

from distill.data import DataConfig, Transformed
from distill.data.classes import Relabelled
from distill.data.spec import ClassesSpec
from distill.errors import UserError
from distill.train import metrics
from distill.train.workdir import Workdir
from pipelines import distill_student, pretrain


def even_too(example):
    """The digit, and 0 beside every even one."""
    classes = np.zeros(10, np.float32)
    classes[example["label"]] = 1
    classes[0] = max(classes[0], example["label"] % 2 == 0)
    return {"image": example["image"], "classes": classes}


class Several(Transformed):
    def __init__(self, source):
        spec = {"image": source.spec["image"], "classes": ClassesSpec(10)}
        super().__init__(source, even_too, spec)

    @property
    def labels(self):
        return np.full(len(self), -1, np.int32)


@pytest.fixture(autouse=True)
def several(monkeypatch):
    opened = DataConfig._open
    monkeypatch.setattr(DataConfig, "_open", lambda *args, **how: Several(opened(*args, **how)))


def test_a_teacher_is_trained_on_them_and_accuracies_are_said_to_be_missing(tmp_path, caplog):
    caplog.set_level("WARNING")
    config = pretrain_config(loss__mixup=0.2, train__total_steps=30)
    trained = pretrain.run(config, Workdir(tmp_path), overview=False)
    losses = metrics.series(metrics.read(tmp_path), "train/loss")[1]
    assert np.mean(losses[-3:]) < 0.8 * losses[0]
    assert not {key for key in trained.summary if "accuracy" in key}
    told = [message for message in caplog.messages if message.startswith("val/accuracy")]
    assert len(told) == 1 and told[0].endswith("missing: none of 240 images has a label")


def test_a_loss_over_one_class_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"type --config\.loss\.kind=sigmoid"):
        pretrain.run(pretrain_config(loss__kind="softmax"), Workdir(tmp_path), overview=False)


def test_a_student_matches_its_teacher_on_them(teacher_workdir, tmp_path):
    config = distill_config(teacher_workdir)
    trained = distill_student.run(config, Workdir(tmp_path), overview=False)
    assert "views/agreement" in metrics.read(tmp_path)[-1]
    assert trained.summary["steps"] == 10


def test_classes_have_a_models_numbers(several):
    source = DataConfig().open("train", channels=1)
    order = [*reversed(range(10))]
    shown = Relabelled(source, source.class_names[::-1], order)
    np.testing.assert_array_equal(shown.read(7)["classes"], source.read(7)["classes"][::-1])
    # 2 and 3 become one; 9 has no number.
    joined = Relabelled(source, tuple("012345678"), [0, 1, 2, 2, 3, 4, 5, 6, 7, -1])
    assert joined.spec["classes"] == ClassesSpec(9)
    for index in range(30):
        classes = source.read(index)["classes"]
        expected = [*classes[:2], classes[2:4].max(), *classes[4:9], 0]
        np.testing.assert_array_equal(joined.read(index)["classes"], expected)


def test_classes_of_which_images_have_several_cannot_be_chosen():
    from distill.data import ChosenClasses

    with pytest.raises(UserError, match="cannot be chosen: each image has several"):
        ChosenClasses(DataConfig().open("train", channels=1), ("3",))
