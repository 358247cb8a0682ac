"""Runs some of whose images have no label: what is left out, and what is refused."""

import contextlib
import logging

import pytest
from support import Unlabelled, distill_config, pretrain_config

from distill.data import DataConfig
from distill.errors import RunFailed, UserError
from distill.json_files import read_json
from distill.train import metrics
from distill.train.best import check_metric
from distill.train.workdir import Workdir
from pipelines import distill_student, pretrain


def without_labels(monkeypatch, method, images):
    """Takes the labels off some of the images that a method of `DataConfig` opens."""
    opened = getattr(DataConfig, method)

    def unlabelled(*args, **options):
        return Unlabelled(opened(*args, **options), images)

    monkeypatch.setattr(DataConfig, method, unlabelled)


def test_a_run_whose_validation_images_have_no_label_lacks_their_metrics_alone(
    tmp_path, monkeypatch, caplog
):
    without_labels(monkeypatch, "open_evaluation", range(360))
    config = pretrain_config(train__keep_best="val/accuracy", train__eval_every=2)
    with caplog.at_level(logging.WARNING):
        pretrain.run(config, Workdir(tmp_path), overview=False)
    rows = metrics.read(tmp_path)
    summary = read_json(tmp_path / "summary.json")
    assert len(rows) >= 5 and "train/accuracy" in rows[-1]
    for found in (*rows, summary):
        assert not any(name.startswith(("val/", "test/")) for name in found)
    assert (tmp_path / "report.html").exists()
    assert not [path for path in (tmp_path / "best").iterdir() if path.name.isdigit()]
    told = [message for message in caplog.messages if message.startswith("val/accuracy")]
    assert len(told) == 1 and told[0].endswith("missing: none of 240 images has a label")


def test_a_metric_that_does_not_exist_is_still_no_best(tmp_path, monkeypatch):
    without_labels(monkeypatch, "open_evaluation", range(360))
    config = pretrain_config(train__keep_best="val/acuracy")
    with pytest.raises(UserError, match=r"keep_best is 'val/acuracy', .*did you mean 'val/acc"):
        pretrain.run(config, Workdir(tmp_path), overview=False)
    # Nothing is begun that would then be lost.
    assert not (tmp_path / "config.json").exists() and not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    ("best", "found", "refused"),
    [
        ("val/accuracy", [{"val/accuracy", "val/loss"}], False),
        ("val/acuracy", [{"val/accuracy"}], True),
        ("val/x", [], True),
        # One that cannot say what it finds, and those that can, under other names.
        ("seg/mean_iou", [{"val/accuracy"}, None], False),
        ("val/acuracy", [{"val/accuracy"}, None], True),
        # Of what only images name, anything.
        ("groups/accuracy/women", [{"groups/accuracy/*", "val/accuracy"}], False),
        ("groups/acuracy/women", [{"groups/accuracy/*"}], True),
    ],
)
def test_what_weights_are_kept_by_has_to_be_among_what_is_found(best, found, refused):
    with pytest.raises(UserError, match="not evaluated") if refused else contextlib.nullcontext():
        check_metric(best, [names and frozenset(names) for names in found])


def test_training_on_labels_refuses_an_image_without(teacher_workdir, tmp_path, monkeypatch):
    without_labels(monkeypatch, "open", {7})
    with pytest.raises(UserError, match=r"pre-training learns from labels, but digits image \d+"):
        pretrain.run(pretrain_config(), Workdir(tmp_path), overview=False)
    config = distill_config(teacher_workdir, matching__losses__labels=0.5)
    with pytest.raises(UserError, match=r"losses\.labels learns from labels, but digits image"):
        distill_student.run(config, Workdir(tmp_path), overview=False)


def test_an_image_that_was_not_looked_at_stops_the_run(tmp_path, monkeypatch):
    without_labels(monkeypatch, "open", range(100))
    monkeypatch.setattr("distill.data.config.check_labels", lambda *_: None)
    with pytest.raises(RunFailed, match=r"digits image \d+ has no label"):
        pretrain.run(pretrain_config(), Workdir(tmp_path), overview=False)


@pytest.mark.parametrize("images, present", [(range(1197), False), (range(600), True)])
def test_matching_a_teacher_needs_no_labels(
    teacher_workdir, tmp_path, monkeypatch, images, present
):
    without_labels(monkeypatch, "open", images)
    config = distill_config(teacher_workdir)
    distill_student.run(config, Workdir(tmp_path), overview=False)
    rows = metrics.read(tmp_path)
    assert all("train/loss" in row for row in rows)
    assert {"train/accuracy" in row for row in rows} == {present}
    assert ("views/accuracy" in rows[-1]) == present and "views/agreement" in rows[-1]


@pytest.mark.parametrize("best", ["nope/accuracy", "accuracy", "valaccuracy"])
def test_what_no_evaluation_is_called_cannot_be_kept(best, tmp_path):
    config = pretrain_config(train__keep_best=best)
    with pytest.raises(UserError, match=r"config\.train\.keep_best: is .* metrics begin with val/"):
        pretrain.run(config, Workdir(tmp_path), overview=False)
    assert not (tmp_path / "metrics.jsonl").exists()
