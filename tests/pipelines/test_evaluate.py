"""The command that evaluates, on a tiny teacher."""

import pytest

from distill.errors import UserError
from pipelines import evaluate


def call(teacher_workdir, *flags):
    evaluate.main([f"--workdir={teacher_workdir}", *flags])


@pytest.fixture(autouse=True)
def fresh_flags():
    """Flags keep their values, and a process usually parses them once."""
    evaluate.FLAGS.unparse_flags()
    for name in evaluate.FLAGS:
        evaluate.FLAGS[name].unparse()
    yield


def test_features_are_evaluated_on_classes_the_model_does_not_have(
    teacher_workdir, image_folder, capsys
):
    call(
        teacher_workdir,
        f"--source=folder:{image_folder}",
        "--fewshot=1,2",
        "--knn=5",
        "--seeds=0,1",
        "--batch_size=8",
    )
    first, header, *rows = capsys.readouterr().out.splitlines()
    assert first == (f"6 images of folder:{image_folder}, 3 classes; 24 images to learn from")
    assert header.split() == ["seed", "0", "seed", "1"]
    assert [row.split()[0] for row in rows] == ["fewshot/1", "fewshot/2", "knn/5"]
    one = [float(value) for value in rows[0].split()[1:]]
    assert one[0] == pytest.approx((one[1] + one[2]) / 2, abs=1e-4)
    assert len(rows[2].split()) == 2


def test_splits_and_classes_are_those_of_the_flags(teacher_workdir, capsys):
    flags = ["--knn=1", "--classes=3,5", "--split=train", "--train_split=test"]
    call(teacher_workdir, *flags)
    first, row = capsys.readouterr().out.splitlines()
    assert "digits, 2 classes" in first
    # Of 1197 and 360 images of ten classes.
    images, learnt_from = int(first.split()[0]), int(first.split("; ")[1].split()[0])
    assert 230 < images < 250 and 68 < learnt_from < 78
    assert row.split()[0] == "knn/1"


def test_the_classifier_is_measured_if_no_features_are_asked_for(teacher_workdir, capsys):
    call(teacher_workdir)
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    metrics = ("accuracy", "calibration_error", "cross_entropy", "top5_accuracy")
    assert names == [f"test/{name}" for name in metrics]


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--fewshot=1,five"], "--fewshot has 'five'; expected numbers such as 1,5,10"),
        (["--fewshot=0"], r"shots must be positive"),
        (["--knn=20,20"], "neighbours must name each once"),
        (["--fewshot=1", "--seeds="], "seeds must be one or more"),
        (["--fewshot=500"], "500 images of every class"),
        (["--train_split=train"], "--train_split is for --fewshot, --knn and --probe"),
        (["--classes=1,ten"], "no class 'ten' among 0, 1, 2"),
        (["--class_map=nowhere.json"], r"nowhere\.json cannot be read"),
        (["--knn=1", "--class_map=in_order"], "--class_map is for a model's own classes"),
        (["--knn=1", "--classes=1,ten"], "no class 'ten' among 0, 1, 2"),
    ],
)
def test_what_cannot_be_evaluated_is_said(flags, message, teacher_workdir):
    with pytest.raises(UserError, match=message):
        call(teacher_workdir, *flags)
