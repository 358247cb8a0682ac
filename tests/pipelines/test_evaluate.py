"""The command that evaluates, on a tiny teacher."""

import jax
import numpy as np
import pytest
from PIL import Image
from support import Unlabelled

from distill.data import DataConfig, open_source
from distill.errors import RunFailed, UserError
from distill.runs import opened
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


@pytest.fixture
def damaged_folder(tmp_path):
    """Digits as files: 25 to test on, one of them truncated, and 25 to train on."""
    for split, seed in (("train", 0), ("test", 1)):
        source = open_source("digits", split, channels=1)
        for number in range(25):
            image, label = source.read(number + seed).values()
            folder = tmp_path / split / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(folder / f"{number}.png")
    first = next((tmp_path / "test").rglob("*.png"))
    first.write_bytes(first.read_bytes()[:40])
    return tmp_path


@pytest.mark.parametrize("flags", [[], ["--knn=1"]])
def test_images_are_counted_that_were_seen(flags, teacher_workdir, damaged_folder, capsys):
    call(teacher_workdir, f"--source=folder:{damaged_folder}", "--batch_size=8", *flags)
    first = capsys.readouterr().out.splitlines()[0]
    if flags:
        assert first.startswith("24 images of ") and first.endswith("; 25 images to learn from")
    else:
        place = f"folder:{damaged_folder}"
        assert first == f"24 images of {place} (1 that cannot be decoded left out)"


def test_a_model_whose_outputs_are_not_numbers_is_refused(teacher_workdir, monkeypatch):
    def load(*args, **options):
        return jax.tree.map(lambda p: p * np.nan, read(*args, **options))

    read = opened.read_checkpoint
    monkeypatch.setattr(opened, "read_checkpoint", load)
    first = open_source("digits", "test", channels=1).describe(0)
    with pytest.raises(RunFailed, match=f"test/cross_entropy.* of {first} is not finite"):
        call(teacher_workdir)
    with pytest.raises(RunFailed, match=f"the embedding of {first} is not finite"):
        call(teacher_workdir, "--knn=1")


def test_of_images_without_any_label_nothing_is_measured(
    teacher_workdir, monkeypatch, capsys, caplog
):
    opened = DataConfig.open_evaluation

    def unlabelled(*args, **options):
        return Unlabelled(opened(*args, **options), range(360))

    monkeypatch.setattr(DataConfig, "open_evaluation", unlabelled)
    assert evaluate.run(teacher_workdir) == {}
    assert capsys.readouterr().out == "360 images of digits\n"
    assert "test/accuracy, " in caplog.text and "none of 360 images has a label" in caplog.text
    call(teacher_workdir, "--knn=1", "--probe")
    assert capsys.readouterr().out == ""
    assert "knn, probe missing" in caplog.text


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--fewshot=1,five"], "--fewshot has 'five'; expected numbers such as 1,5,10"),
        (["--fewshot=0"], "shots must be a whole number from 1"),
        (["--knn=20,20"], "neighbours must name each once"),
        (["--fewshot=1", "--seeds="], "seeds are none"),
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
