"""A run, its teacher and stored targets that were moved, or copied, together."""

import json
import os
import shutil

import pytest
from support import arguments, run_command

from distill.export.about import describe
from distill.json_files import read_json
from distill.train.workdir import read_config

STUDENT = "distill/digits.py"


def student(root, name="student", **overrides):
    return arguments(STUDENT, root / "runs" / name, **overrides)


def succeed(*command):
    done = run_command(*command)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory, teacher_workdir):
    root = tmp_path_factory.mktemp("made") / "a"
    shutil.copytree(teacher_workdir, root / "runs" / "teacher")
    teacher = {"teacher__workdir": root / "runs" / "teacher"}
    succeed("distill_student", *student(root, **teacher))
    succeed("store_targets", *student(root, "targets", store__epochs=0.1, **teacher))
    return root


@pytest.fixture(params=["moved", "copied"])
def there(request, made, tmp_path):
    """Where all of it lies now."""
    shutil.copytree(made, tmp_path / "b", symlinks=True)
    hidden = made.with_name("hidden")
    if request.param == "moved":
        made.rename(hidden)
    yield tmp_path / "b"
    if request.param == "moved":
        hidden.rename(made)


def recorded(path):
    return read_json(path)


def written(directory):
    """When its files were written, but for that to which evaluations are added."""
    files = (file for file in sorted(directory.rglob("*")) if file.is_file())
    # What an evaluation of the run adds to and draws again.
    added = ("evaluations.jsonl", "report.html")
    return {file: file.stat().st_mtime_ns for file in files if file.name not in added}


def test_a_run_that_was_moved_is_read_and_resumed_with_what_it_used(there, made):
    now = there / "runs"
    # A copy is read with what it was made with, which is still there.
    teacher = made / "runs" / "teacher" if made.exists() else now / "teacher"
    before = written(now)
    assert "test/agreement" in succeed("evaluate", f"--workdir={now}/student")
    assert f"teacher  {teacher}, fingerprint" in succeed("inspect", now / "student")
    assert f"teacher  {teacher}, fingerprint" in succeed("inspect", now / "targets")
    card = describe(now / "student", read_config(now / "student"), best=False)
    assert card["teachers"]["teacher"]["source"] == str(teacher)
    # Whoever reads a run need not be able to write there.
    assert written(now) == before

    again = student(there, teacher__workdir=now / "teacher")
    assert "complete already" in succeed("distill_student", *again)
    assert recorded(now / "student" / "config.json")["teacher"]["workdir"] == str(now / "teacher")
    assert recorded(now / "student" / "claim.json")["workdir"] == str(now / "student")
    assert recorded(now / "student" / "teachers.json")["teacher"]["source"] == str(now / "teacher")

    again = student(there, "targets", store__epochs=0.1, teacher__workdir=now / "teacher")
    succeed("store_targets", *again)
    about = recorded(now / "targets" / "store.json")["about"]
    assert about["teachers"]["teacher"]["source"] == str(now / "teacher")


def test_another_teacher_is_still_another_config(there):
    other = shutil.copytree(there / "runs" / "teacher", there / "runs" / "other")
    done = run_command("distill_student", *student(there, teacher__workdir=other))
    assert done.returncode == 2
    assert "belongs to a run with another config\n  config.teacher.workdir" in done.stderr


def test_a_run_that_recorded_paths_as_typed_is_resumed_where_it_was_started(
    made, tmp_path, monkeypatch
):
    shutil.copytree(made, tmp_path / "a")
    run = tmp_path / "a" / "runs" / "student"
    config = recorded(run / "config.json")
    config["teacher"]["workdir"] = "runs/teacher"
    (run / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (run / "claim.json").unlink()
    (run / "teachers.json").unlink()
    # From elsewhere: what is above the workdir.
    assert f"teacher  {run.parent}/teacher, " in succeed("inspect", run)
    monkeypatch.chdir(tmp_path / "a")
    again = student(tmp_path / "a", teacher__workdir="runs/teacher")
    assert "complete already" in succeed("distill_student", *again)
    assert recorded(run / "config.json")["teacher"]["workdir"] == f"{os.getcwd()}/runs/teacher"


def test_targets_that_were_moved_are_replayed(there):
    replay = student(there, "replay", teacher="none", targets=there / "runs" / "targets")
    succeed("distill_student", *replay, "--config.train.total_steps=3")
    teacher = recorded(there / "runs" / "replay" / "teachers.json")["teacher"]["source"]
    assert os.path.isdir(teacher)
