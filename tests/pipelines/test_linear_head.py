"""Fairness of a model that has no class for what is asked: a linear head is fitted first."""

import dataclasses

import numpy as np
import pytest
from faces import faces, write_folder, write_records
from published import big_vision_arrays
from sklearn.linear_model import LogisticRegression

from distill.analysis.linear import Standardisation
from distill.config import load_file, resolve
from distill.data import DataConfig, open_source
from distill.errors import UserError
from distill.evaluate.fairness import FairnessConfig
from distill.evaluate.features import FeatureExtractor, split_loader
from distill.evaluate.of_images import OfImagesConfig
from distill.runs.evaluated import FILE, EvaluateConfig, evaluate, evaluate_predictions, kept
from distill.runs.predicted import predict
from distill.runs.subject import open_subject
from distill.runs.weights import WeightsConfig


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("celeba"))


def asked(argument, **overrides):
    tree = load_file(f"evaluate/celeba:{argument}")
    given = {f"evals.smiling.{key}": text for key, text in overrides.items()}
    return resolve(EvaluateConfig, tree, given).evals


@pytest.fixture(scope="module")
def judged(root, teacher_workdir, tmp_path_factory):
    lines = tmp_path_factory.mktemp("lines") / FILE
    return evaluate(teacher_workdir, asked(root), batch_size=16, output=lines), kept(lines)[-1]


def test_figures_are_those_of_scikit_learns_head_on_the_same_features(
    judged, root, teacher_workdir
):
    found, line = judged
    opened = open_subject(teacher_workdir)
    network, source = (
        opened.subject.network,
        open_source(f"images:{root}/img_align_celeba", "train", channels=1),
    )
    loader = split_loader(
        source,
        DataConfig(threads=1),
        network.mesh,
        size=8,
        batch_size=64,
        view=opened.subject.view,
    )
    features = FeatureExtractor(network)(opened.params, loader).embedding
    smiling, male, part = (
        np.array([getattr(face, name) for face in faces()])
        for name in ("smiling", "male", "partition")
    )
    training, test = part == 0, part == 2
    standard = Standardisation.of(features[training])
    head = line["details"]["head"]
    # Of two classes it penalises the difference of their weights, half of which each has here.
    reference = LogisticRegression(C=2 / (head["l2"] * training.sum()), tol=1e-8, max_iter=10_000)
    reference.fit(standard(features[training]), smiling[training])
    right = (reference.predict(standard(features)) == smiling) & test
    assert 0.6 < found["smiling/accuracy"] == right.sum() / test.sum()
    score = reference.predict_proba(standard(features))[:, 1]
    groups = line["details"]["before"]["score"]["groups"]
    for code, which in {"1": male, "-1": ~male}.items():
        of = test & which
        assert found[f"smiling/accuracy/Male={code}"] == right[of].sum() / of.sum()
        assert groups[f"Male={code}"]["rate"] == pytest.approx(score[of].mean(), abs=1e-4)


def test_what_was_fitted_to_how_many_images_is_kept_and_said(judged, root, teacher_workdir, capsys):
    found, line = judged
    positives = sum(face.smiling for face in faces() if face.partition == 0)
    head = line["details"]["head"]
    assert {**head, "l2": 0} == {
        "target": "Smiling",
        "images": 120,
        "positives": positives,
        "l2": 0,
        "held_out": 12,
    }
    assert line["learnt_from"] == line["data"] and line["data"][0]["images"] == 240
    again = evaluate(teacher_workdir, asked(root), batch_size=16)
    assert again == found
    said = capsys.readouterr().out
    assert f"fitted to Smiling of 120 images, {positives} of which have it; its penalty" in said
    assert "did best on 12 of them, held out" in said
    assert "debiasers fitted to 60 images, all else measured on 60" in said


def test_records_say_groups_and_targets_themselves(teacher_workdir, tmp_path, capsys):
    pytest.importorskip("tensorflow_datasets")
    evals = asked(f"tfds:{write_records(tmp_path)}")
    lines = tmp_path / FILE
    found = evaluate(teacher_workdir, evals, batch_size=16, data_dir=str(tmp_path), output=lines)
    assert found["smiling/accuracy"] > 0.6
    assert {"smiling/accuracy/attributes/Male=True", "smiling/debiased/0/accuracy"} <= found.keys()
    (line,) = kept(lines)
    assert [one["split"] for one in line["data"]] == ["test", "validation"]
    assert [(one["split"], one["images"]) for one in line["learnt_from"]] == [("train", 120)]
    assert "debiasers fitted to 60 images, all else measured on 60" in capsys.readouterr().out
    file = tmp_path / "p.npz"
    images = OfImagesConfig(source=evals["smiling"].source, split="test")
    predict(teacher_workdir, images, file, batch_size=16, data_dir=str(tmp_path))
    asked_of_file = FairnessConfig(
        positive="3", target="attributes/Smiling", group="attributes/Male"
    )
    told = evaluate_predictions(file, {"file": asked_of_file})
    assert {"file/accuracy/attributes/Male=True", "file/parity_gap"} <= told.keys()


def test_published_weights_without_classes_are_judged_by_their_features(root, tmp_path):
    arrays = big_vision_arrays("big_vision", "gap", classes=0)
    np.savez(tmp_path / "weights.npz", **arrays)
    found = evaluate(WeightsConfig(path=str(tmp_path / "weights.npz")), asked(root), batch_size=16)
    assert 0.5 < found["smiling/accuracy"] <= 1


def test_a_class_of_the_model_is_measured_where_it_is_named(root, teacher_workdir, capsys):
    found = evaluate(teacher_workdir, asked(root, positive="3"), batch_size=16)
    assert "smiling/parity_gap" in found and "linear head" not in capsys.readouterr().out


def test_debiasers_may_be_fitted_to_a_split_of_their_own(image_folder, teacher_workdir, tmp_path):
    table = tmp_path / "t.csv"
    rows = (
        f"{split}/{name}/{n}.jpg,{n % 2},{name}"
        for split in ("validation", "test")
        for name in ("dark", "grey", "light")
        for n in range(2)
    )
    table.write_text("\n".join(["image,target,side", *rows]))
    config = FairnessConfig(
        source=f"folder:{image_folder}",
        split="test",
        held_out_split="validation",
        positive="3",
        target="target",
        group="side",
        table=str(table),
        biases=(0.0,),
    )
    lines = tmp_path / FILE
    evaluate(teacher_workdir, {"f": config}, batch_size=4, output=lines)
    details = kept(lines)[0]["details"]
    assert (details["held_out"], details["count"]) == (6, 6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give positive, a class of the model, or target"),
        ({"target": "t", "partition": "p", "train_split": "train"}, "leave out other splits"),
        ({"positive": "3", "train_split": "train"}, "train_split is for a linear head"),
    ],
)
def test_what_cannot_be_fitted_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        FairnessConfig(group="g", **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"partition": None}, "evaluation s: a linear head for Smiling needs images to fit it to"),
        ({"partition": None, "train_split": "train"}, "are the same; expected splits that differ"),
        ({"target": "Smilling"}, "no column 'Smilling'; did you mean 'Smiling'"),
        ({"target": "Ghost"}, "cannot be fitted to 120 images, 0 of which have it"),
    ],
)
def test_images_that_cannot_be_fitted_to_are_refused(
    given, message, root, teacher_workdir, tmp_path
):
    ghost = "\n".join(["image,Ghost", *(f"{face.name},0" for face in faces())])
    (tmp_path / "ghost.csv").write_text(ghost)
    config = dict(
        source=f"images:{root}/img_align_celeba",
        split="train",
        target="Smiling",
        group="Male",
        table=str(tmp_path / "ghost.csv"),
        attributes=f"{root}/list_attr_celeba.txt",
        partition=f"{root}/list_eval_partition.txt",
    )
    with pytest.raises(UserError, match=message):
        evaluate(teacher_workdir, {"s": FairnessConfig(**config | given)}, batch_size=16)


def test_the_head_of_a_run_is_fitted_to_its_own_training_images(teacher_workdir):
    subject = open_subject(teacher_workdir).subject
    elsewhere = dataclasses.replace(
        subject, data=dataclasses.replace(subject.data, eval_source="images:elsewhere")
    )
    config = FairnessConfig(target="low", group="side")
    train = config._training(elsewhere, config.shown("low", elsewhere))
    assert (train.data.evaluation_source, train.split) == ("digits", "train")
    (learnt_from,) = config.build("low", subject).about()["learnt_from"]
    assert (learnt_from["split"], learnt_from["images"]) == ("train", 1197)
