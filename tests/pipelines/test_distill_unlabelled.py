"""Distillation on images without labels, evaluated on labelled ones."""

from pathlib import Path

import pytest
from PIL import Image
from support import distill_config, pretrain_config

from distill.data import open_source
from distill.errors import UserError
from distill.evaluate.split import SplitConfig
from distill.export import several
from distill.export.versions import Version
from distill.json_files import read_json
from distill.train.workdir import Workdir
from pipelines import distill_student, evaluate, export, pretrain


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    digits = open_source("digits", "train", channels=1)
    for number in range(64):
        Image.fromarray(digits.read(number)["image"][..., 0]).save(root / f"{number:02}.png")
    return root


@pytest.fixture(scope="module")
def student(photos, teacher_workdir, tmp_path_factory):
    """Distilled without any label, and evaluated on the digits."""
    config = distill_config(
        teacher_workdir, data__source=f"images:{photos}", data__eval_source="digits"
    )
    path = tmp_path_factory.mktemp("student")
    distill_student.run(config, Workdir(path), overview=False)
    return path


def test_a_student_needs_no_labels_and_is_evaluated_where_there_are_some(student, capsys):
    summary = read_json(student / "summary.json")
    assert {"test/accuracy", "test/agreement", "val/accuracy"} <= summary.keys()
    metrics = evaluate.run(student)
    assert "360 images of digits" in capsys.readouterr().out
    assert metrics["test/accuracy"] == pytest.approx(summary["test/accuracy"])


def exported_names(workdir, monkeypatch):
    names = []

    def export_version(model, *rest):
        names.extend(model.class_names)
        return Version(Path("1"), [])

    monkeypatch.setattr(several, "export_version", export_version)
    export.run(workdir)
    return names


def test_an_export_names_the_classes_of_the_labelled_data(student, monkeypatch):
    assert exported_names(student, monkeypatch) == list("0123456789")


def test_without_any_labelled_data_an_export_numbers_the_classes(
    photos, teacher_workdir, tmp_path, monkeypatch
):
    config = distill_config(
        teacher_workdir,
        data__source=f"images:{photos}",
        data__validation_split="none",
        data__test_split="none",
    )
    summary = distill_student.run(config, Workdir(tmp_path), overview=False).summary
    assert summary["steps"] == 10 and not any("accuracy" in name for name in summary)
    assert exported_names(tmp_path, monkeypatch) == [str(number) for number in range(10)]


def test_pretraining_needs_labels(photos, tmp_path):
    config = pretrain_config(data__source=f"images:{photos}", data__eval_source="digits")
    with pytest.raises(UserError, match="pre-training learns from labels"):
        pretrain.run(config, Workdir(tmp_path), overview=False)


def test_a_loss_of_labels_needs_labels(teacher_workdir, photos, tmp_path):
    config = distill_config(
        teacher_workdir,
        data__source=f"images:{photos}",
        data__eval_source="digits",
        matching__losses__labels=1.0,
        train__batch_size=8,
    )
    with pytest.raises(UserError, match=r"losses\.labels learns from labels, .* have none"):
        distill_student.run(config, Workdir(tmp_path), overview=False)


def test_a_student_is_not_evaluated_on_images_without_labels(student, photos):
    with pytest.raises(UserError, match=r"images:.* has no labels to evaluate against"):
        evaluate.run(student, {"train": SplitConfig(split="train", source=f"images:{photos}")})
