"""Distillation from a workdir: what it promises and what it refuses."""

import contextlib
import json
import shutil

import jax
import numpy as np
import pytest
from support import distill_config

from distill.config import ConfigError
from distill.data.sources import Digits
from distill.errors import UserError
from distill.evaluate.split import SplitConfig
from distill.json_files import read_json
from distill.optim import parameter_names
from distill.parallel import MeshConfig, make_mesh
from distill.runs.opened import open_model
from distill.train import metrics
from distill.train.workdir import Workdir
from pipelines import distill_student, evaluate

VALIDATION = {"validation": SplitConfig(split="validation")}


@pytest.fixture(scope="module")
def student_workdir(teacher_workdir, tmp_path_factory):
    """Evaluated every other step, of which the best is kept by a metric that is named."""
    path = tmp_path_factory.mktemp("student")
    config = distill_config(teacher_workdir, train__keep_best="val/cka", train__eval_every=2)
    with (path / "printed.txt").open("w") as out, contextlib.redirect_stderr(out):
        distill_student.run(config, Workdir(path), overview=False)
    return path


def test_student_is_scored_against_labels_and_teacher(student_workdir):
    summary = read_json(student_workdir / "summary.json")
    assert {"test/accuracy", "test/agreement", "test/kl", "val/agreement"} <= summary.keys()
    rows = metrics.read(student_workdir)
    assert {"train/loss", "train/agreement", "train/accuracy"} <= rows[0].keys()
    watched = {"agreement", "top5_agreement", "kl", "cka", "accuracy"}
    assert {f"{name}/{metric}" for name in ("val", "views") for metric in watched} <= summary.keys()
    assert summary["views/accuracy"] != summary["val/accuracy"]
    assert 0 < summary["val/cka"] < 1


def test_teacher_accuracy_is_said_before_the_first_step(teacher_workdir, student_workdir):
    printed = (student_workdir / "printed.txt").read_text()
    known = read_json(teacher_workdir / "summary.json")["val/accuracy"]
    said = printed.index(f"teacher accuracy {known:.2%}")
    assert said < printed.index("distill 1/10")
    # Ten steps have hardly taught it anything; of 240 guesses, 40 are right once in a thousand.
    assert ("cannot be told from guessing" in printed) == (known < 39.5 / 240)


def test_the_best_weights_are_kept_by_the_metric_that_is_named(
    student_workdir, teacher_workdir, tmp_path
):
    rows = [row for row in metrics.read(student_workdir) if "val/cka" in row]
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10]
    best = max(rows, key=lambda row: row["val/cka"])
    assert [path.name for path in (student_workdir / "best").iterdir()] == [str(best["step"])]
    found = evaluate.run(student_workdir, VALIDATION, best=True)
    assert found["validation/cka"] == pytest.approx(best["val/cka"], rel=1e-3)
    config = distill_config(teacher_workdir, train__keep_best="val/acuracy")
    with pytest.raises(UserError, match="'val/acuracy', which is not evaluated; there are val/acc"):
        distill_student.run(config, Workdir(tmp_path / "other"), overview=False)


def test_a_relational_loss_takes_its_batches_whole(teacher_workdir, tmp_path):
    config = distill_config(
        teacher_workdir, train__microbatches=2, matching__losses__embedding_rkd=1
    )
    with pytest.raises(ConfigError, match=r"config\.train: .*set --config\.train\.microbatches=1"):
        distill_student.run(config, Workdir(tmp_path / "run"), overview=False)
    assert not (tmp_path / "run" / "config.json").exists()


def test_the_teacher_is_not_in_the_students_checkpoint(student_workdir):
    checkpoint = student_workdir / "checkpoints" / "10"
    items = {path.name for path in checkpoint.iterdir() if path.is_dir()}
    assert items == {"params", "optimizer", "progress"}
    metadata = json.loads((checkpoint / "params" / "_METADATA").read_text())
    saved = {
        "/".join(k["key"] for k in leaf["key_metadata"])
        for leaf in metadata["tree_metadata"].values()
    }
    student = distill_config(student_workdir).model.network()
    assert saved == set(jax.tree.leaves(parameter_names(student.abstract_params)))


def test_labels_do_not_reach_the_student(teacher_workdir, student_workdir, tmp_path, monkeypatch):
    """Shuffled labels change what is logged and nothing that is learned."""
    read = Digits.read
    monkeypatch.setattr(
        Digits, "read", lambda self, i: read(self, i) | {"label": np.int32(i * 7 % 10)}
    )
    distill_student.run(distill_config(teacher_workdir), Workdir(tmp_path), overview=False)
    mesh = make_mesh(MeshConfig())
    one, other = (open_model(path, mesh).params for path in (student_workdir, tmp_path))
    assert all(
        np.array_equal(x, y)
        for x, y in zip(*(jax.tree.leaves(params) for params in (one, other)), strict=True)
    )
    scores = [metrics.read(path)[-1]["val/cross_entropy"] for path in (student_workdir, tmp_path)]
    assert scores[0] != scores[1]


def test_teacher_in_bfloat16_at_another_resolution(teacher_workdir, tmp_path):
    config = distill_config(
        teacher_workdir, teacher__dtype="bfloat16", model__image_size=16, model__variant="mu/4"
    )
    trained = distill_student.run(config, Workdir(tmp_path), overview=False)
    assert trained.summary["steps"] == 10


def test_a_teacher_without_checkpoint_is_refused(teacher_workdir, tmp_path):
    empty = tmp_path / "teacher"
    empty.mkdir()
    with pytest.raises(UserError, match=r"no config\.json"):
        distill_student.run(distill_config(empty), Workdir(tmp_path / "s"), overview=False)
    (empty / "config.json").write_bytes((teacher_workdir / "config.json").read_bytes())
    with pytest.raises(UserError, match="no checkpoint"):
        distill_student.run(distill_config(empty), Workdir(tmp_path / "s"), overview=False)
    with pytest.raises(UserError, match=r"config\.teacher\.workdir is .*, where nothing is"):
        config = distill_config(tmp_path / "nowhere")
        distill_student.run(config, Workdir(tmp_path / "s"), overview=False)


def test_an_unfinished_teacher_is_refused_unless_its_step_is_named(teacher_workdir, tmp_path):
    unfinished = tmp_path / "teacher"
    shutil.copytree(teacher_workdir, unfinished)
    (unfinished / "summary.json").unlink()
    with pytest.raises(UserError, match=r"is not complete .* of step 10"):
        distill_student.run(distill_config(unfinished), Workdir(tmp_path / "s"), overview=False)
    with pytest.raises(UserError, match="no checkpoint of step 7; it has 5, 10"):
        config = distill_config(unfinished, teacher__step=7)
        distill_student.run(config, Workdir(tmp_path / "s"), overview=False)
    config = distill_config(unfinished, teacher__step=5)
    assert (
        distill_student.run(config, Workdir(tmp_path / "s"), overview=False).summary["steps"] == 10
    )


def test_a_teacher_of_other_classes_is_refused(teacher_workdir, tmp_path, image_folder):
    config = distill_config(
        teacher_workdir,
        data__source=f"folder:{image_folder}",
        model__num_classes=3,
        train__batch_size=8,
    )
    with pytest.raises(UserError, match=r"3 classes that the teacher does not have: 'dark'"):
        distill_student.run(config, Workdir(tmp_path), overview=False)


def test_an_unexpected_teacher_is_refused(teacher_workdir, tmp_path):
    config = distill_config(
        teacher_workdir,
        teacher__model__family="vit_22b",
        teacher__model__variant="22B/2",
        teacher__model__image_size=8,
        teacher__model__channels=1,
        teacher__model__num_classes=10,
    )
    with pytest.raises(UserError, match="width is 16, expected 6144"):
        distill_student.run(config, Workdir(tmp_path), overview=False)


def test_evaluate_repeats_the_runs_own_figures(student_workdir, teacher_workdir, capsys):
    summary = read_json(student_workdir / "summary.json")
    found = evaluate.run(student_workdir)
    for name in ("test/accuracy", "test/agreement", "test/kl"):
        assert found[name] == pytest.approx(summary[name], abs=1e-6)
    # Another batch size, with padding in the last batch, changes nothing.
    assert evaluate.run(student_workdir, batch_size=7) == pytest.approx(found, abs=1e-5)
    teacher = evaluate.run(teacher_workdir, VALIDATION)
    known = read_json(teacher_workdir / "summary.json")
    assert teacher["validation/accuracy"] == pytest.approx(known["val/accuracy"])
    assert "360 images of digits" in capsys.readouterr().out
