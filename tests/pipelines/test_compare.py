"""`distill compare`: several models evaluated alike, and what they retain of the first."""

import json

import numpy as np
import pytest

from distill.analysis.intervals import ratio_interval
from distill.analysis.prediction_files import write_predictions
from distill.analysis.predictions import Predictions
from distill.errors import Damaged, UserError
from distill.evaluate.calibration import CalibrationConfig
from distill.evaluate.corruptions import CorruptionsConfig
from distill.evaluate.humans import HumanAlignmentConfig
from distill.evaluate.split import SplitConfig
from distill.evaluate.subgroups import SubgroupsConfig
from distill.report.compared import rows, write_comparison
from distill.runs import evaluated, subject
from distill.runs.compared import RESULT, compare, named_models
from distill.runs.evaluated import FILE, evaluate, kept
from pipelines.compare import main

IMAGES = dict(source="digits", split="test")
EVALS = {
    "clean": SplitConfig(**IMAGES),
    "robust": CorruptionsConfig(**IMAGES, corruptions=("contrast", "fog"), severities=(1, 3)),
    "calibration": CalibrationConfig(**IMAGES, held_out=0.0),
}


@pytest.fixture(scope="module")
def predictions(tmp_path_factory):
    """Of a model from elsewhere: nine of ten are right."""
    file = tmp_path_factory.mktemp("elsewhere") / "elsewhere.npz"
    labels = np.arange(360) % 10
    scores = 5.0 * np.eye(10, dtype=np.float32)[(labels + (np.arange(360) % 10 == 0)) % 10]
    write_predictions(
        file,
        Predictions(
            scores=scores,
            class_names=tuple("0123456789"),
            labels=labels,
            names=np.arange(360).astype(str),
        ),
    )
    return file


@pytest.fixture(scope="module")
def compared(teacher_workdir, predictions, tmp_path_factory):
    output = tmp_path_factory.mktemp("compared")
    models = {"teacher": teacher_workdir, "again": teacher_workdir, "elsewhere": predictions}
    return compare(models, EVALS, output), output


def test_figures_are_those_of_each_model_alone(compared, teacher_workdir):
    result, output = compared
    teacher, again, elsewhere = result["models"]
    alone = evaluate(teacher_workdir, {"clean": EVALS["clean"]})
    assert teacher["evaluations"]["clean"]["metrics"] == alone
    assert again["evaluations"] == teacher["evaluations"]
    assert elsewhere["evaluations"]["clean"] is None
    assert elsewhere["evaluations"]["calibration"]["metrics"]["calibration/accuracy"] == 0.9
    assert json.loads((output / RESULT).read_text()) == json.loads(json.dumps(result))


def test_what_is_retained_is_a_ratio_of_shares(compared):
    result, _ = compared
    kept_of = result["retained"]["calibration/accuracy"]
    theirs = result["models"][0]["evaluations"]["calibration"]["metrics"]["calibration/accuracy"]
    assert kept_of["again"]["ratio"] == 1
    assert kept_of["elsewhere"]["ratio"] == pytest.approx(0.9 / theirs)
    whole = (round(theirs * 360), 360)
    assert kept_of["elsewhere"]["interval"] == [*ratio_interval((324, 360), whole)]
    assert result["other_images"] == {}
    assert "calibration/ece" not in result["retained"]


def test_what_was_computed_before_is_not_computed_again(
    compared, teacher_workdir, tmp_path, monkeypatch
):
    def never(*arguments):
        raise AssertionError("it was computed before")

    hashed, fingerprint = [], subject.fingerprint
    monkeypatch.setattr(subject, "fingerprint", lambda tree: hashed.append(1) or fingerprint(tree))
    monkeypatch.setattr(evaluated, "_line", never)
    before = len(kept(teacher_workdir / FILE))
    again = compare({"teacher": teacher_workdir}, EVALS, tmp_path)
    assert _metrics(again) == _metrics(compared[0])
    assert len(kept(teacher_workdir / FILE)) == before and len(hashed) == 1
    changed = EVALS | {"calibration": CalibrationConfig(**IMAGES, held_out=0.0, bins=4)}
    with pytest.raises(AssertionError, match="computed before"):
        compare({"teacher": teacher_workdir}, changed, tmp_path)


def test_an_error_names_model_and_evaluation_once(teacher_workdir, image_folder, tmp_path):
    evals = {"s": SplitConfig(source=f"folder:{image_folder}", split="test")}
    with pytest.raises(UserError, match=r"^teacher: evaluation s: folder:"):
        compare({"teacher": teacher_workdir}, evals, tmp_path)


def test_what_a_changed_file_said_is_computed_again(teacher_workdir, tmp_path):
    table = tmp_path / "groups.csv"
    evals = {"groups": SubgroupsConfig(**IMAGES, group="half", table=str(table))}

    def found(first, last):
        rows = [f"{name},{first if name < 1600 else last}" for name in range(1797)]
        table.write_text("\n".join(["name,half", *rows]))
        (model,) = compare({"teacher": teacher_workdir}, evals, tmp_path)["models"]
        return model["evaluations"]["groups"]

    before, after = found("a", "b"), found("c", "d")
    assert {"groups/accuracy/a", "groups/accuracy/b"} < before["metrics"].keys()
    assert {"groups/accuracy/c", "groups/accuracy/d"} < after["metrics"].keys()
    assert found("c", "d") == after


def test_lines_of_before_files_were_recorded_are_known_where_none_is_named():
    line = {"name": "a", "config": {"kind": "split"}, "parameters": "0", "teachers": {}}
    assert evaluated._identity(line) == evaluated._identity(line | {"files": {}})
    assert evaluated._identity(line) != evaluated._identity(line | {"files": {"table": "0"}})


def test_trials_that_are_asked_for_are_written_again(tmp_path):
    assert not HumanAlignmentConfig(source="digits").writes
    assert HumanAlignmentConfig(source="digits", trials=str(tmp_path)).writes


def test_views_in_batches_of_another_size_are_others():
    line = {"name": "a", "config": {"kind": "views"}, "batch_size": 64}
    assert evaluated._identity(line) != evaluated._identity(line | {"batch_size": 32})
    split = line | {"config": {"kind": "split"}}
    assert evaluated._identity(split) == evaluated._identity(split | {"batch_size": 32})


def _metrics(result):
    lines = result["models"][0]["evaluations"]
    return {name: line["metrics"] for name, line in lines.items()}


def test_the_page_shows_every_figure_and_what_was_run(compared, tmp_path):
    result, _ = compared
    page = write_comparison(result, tmp_path).read_text()
    header, lines = rows(result)
    assert header == ["", "teacher", "again", "elsewhere", "again / teacher", "elsewhere / teacher"]
    shown = dict((line[0], line[1:]) for line in lines)
    assert shown["clean/accuracy"][2] == "—" and shown["clean/accuracy"][3].startswith("100.0%")
    assert shown["calibration/accuracy"][2].startswith("0.9000\n0.8")
    assert all(name.partition("/")[2] in page for name in shown)
    assert "robust: mean accuracy" in page and "calibration: ece" in page
    assert page.count('<figure class="chart') == 3 and "360 of digits test" in page


def test_models_are_called_by_their_paths_unless_named(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "student").mkdir(parents=True)
    one, other = (str(tmp_path / name / "student") for name in ("a", "b"))
    assert list(named_models([one, f"other={other}"])) == ["student", "other"]
    with pytest.raises(UserError, match="are both called 'student'; call one otherwise"):
        named_models([one, other])
    with pytest.raises(UserError, match="is not there"):
        named_models([str(tmp_path / "c")])


def test_lines_that_were_cut_off_are_left_out(tmp_path):
    whole = {"name": "a", "config": {}, "metrics": {}, "time": "now"}
    (tmp_path / FILE).write_text(json.dumps(whole) + '\n{"name": "b", "con')
    assert kept(tmp_path / FILE) == [whole]
    assert kept(tmp_path / "missing") == []
    for bad in ("{", "[]", '{"name": "b"}'):
        (tmp_path / FILE).write_text(f"{json.dumps(whole)}\n{bad}\n{json.dumps(whole)}\n")
        with pytest.raises(Damaged, match=f"line 2 of {tmp_path / FILE} is damaged"):
            kept(tmp_path / FILE)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_flags_may_stand_before_models_and_after_them(order, teacher_workdir, tmp_path):
    given = ["--config", "evaluate/splits", "--batch_size=64"]
    given.insert((0, 2, 3)[order], f"gone={tmp_path / 'gone'}")
    with pytest.raises(UserError, match=r"/gone is not there"):
        main([*given, str(teacher_workdir)])
