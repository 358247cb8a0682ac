"""Exports tell where the model comes from."""

import contextlib
import io
import os
import sys

import pytest
from exports import runtimes_in_this_process
from support import REPOSITORY, distill_config, run_command

from distill.config import load_file, resolve
from distill.errors import RunFailed, UserError
from distill.export import stablehlo
from distill.export.about import describe
from distill.export.model import ExportMismatch
from distill.export.versions import FORMATS, obstacles
from distill.json_files import read_json
from distill.nn.family import ModelConfig
from distill.nn.fingerprint import fingerprint
from distill.parallel import MeshConfig, make_mesh
from distill.runs.models import without_execution
from distill.runs.opened import open_model
from distill.train.workdir import Workdir, read_config
from pipelines import distill_student, export

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("runtimes_in_this_process")]


@pytest.fixture(scope="module")
def distilled(teacher_workdir, tmp_path_factory):
    """A student's workdir, and what its training said."""
    path = tmp_path_factory.mktemp("runs") / "little"
    config = distill_config(teacher_workdir, data__view__flip=False)
    with contextlib.redirect_stderr(io.StringIO()) as said:
        distill_student.run(config, Workdir(path), overview=False)
    return path, said.getvalue()


@pytest.fixture(scope="module")
def student(distilled):
    return distilled[0]


def test_what_a_student_cannot_be_exported_to_is_said_when_its_training_starts(distilled):
    said = distilled[1].splitlines()
    (remark,) = [line for line in said if "cannot be exported" in line]
    assert remark == (
        "distill: cannot be exported to hf: its vision transformer is a plain one, without "
        "head='gap' (it has cls)"
    )
    assert said.index(remark) < next(n for n, line in enumerate(said) if "10/10" in line)


@pytest.fixture(scope="module")
def exported(student):
    with runtimes_in_this_process():
        return export.run(student, formats=("stablehlo",), licence="apache-2.0", images=50)


def test_the_card_names_teacher_recipe_and_figures(student, exported, teacher_workdir):
    version = exported["stablehlo"].path
    assert version == student / "export" / "stablehlo" / "1"
    card = (version / "MODEL_CARD.md").read_text()
    params = open_model(teacher_workdir, make_mesh(MeshConfig())).params
    recorded = read_config(teacher_workdir)["model"]
    model = without_execution(recorded)
    summary = read_json(student / "summary.json")
    for expected in (
        'license: "apache-2.0"',
        "# little",
        f"{teacher_workdir}, fingerprint `{fingerprint(params, model)}`",
        f"- parameters: {summary['parameters']:,}",
        f"- test/accuracy: {summary['test/accuracy']:.4f}",
        "- steps: 10",
        "- images a step: 32",
        "- matching.mixup: ",
        "- trained on: digits, split train",
        "50 images of digits, split test",
    ):
        assert expected in card, card


def test_accuracy_is_that_of_the_evaluation_split(student, tmp_path):
    versions = export.run(student, tmp_path, formats=("stablehlo",))
    summary = read_json(student / "summary.json")
    (checked,) = versions["stablehlo"].checked
    assert checked.accuracy == pytest.approx(summary["test/accuracy"])


def test_a_run_of_before_fingerprints_were_recorded_has_its_teachers_workdir(
    student, teacher_workdir
):
    recorded = read_config(student)
    (student / "teachers.json").rename(student / "moved")
    found = describe(student, recorded, best=False)["teachers"]
    (student / "moved").rename(student / "teachers.json")
    assert found["teacher"]["source"] == str(teacher_workdir)
    assert "fingerprint" not in found["teacher"]


def test_unknown_formats_and_unfit_heads_are_refused(student):
    with pytest.raises(UserError, match="unknown format 'keras'; expected one or more of"):
        export.run(student, formats=("saved_model", "keras"))
    with pytest.raises(UserError, match="no format; expected one or more of saved_model, "):
        export.run(student, formats=())
    # Before anything is written.
    with pytest.raises(UserError, match=r"tflite cannot hold this model: .* not in bfloat16"):
        export.run(student, student / "out", formats=("stablehlo", "tflite"), dtype="bfloat16")
    assert not (student / "out").exists()
    assert run_command("export", f"--workdir={student}", "--dtype=float16").returncode == 2


def refuse(exported, directory):
    raise ExportMismatch("the int8 export is another model")


def test_what_fails_spoils_nothing_else(student, tmp_path, monkeypatch):
    for form, write in {"saved_model": (stablehlo.write, refuse), "onnx": (refuse,)}.items():
        changed = FORMATS["stablehlo"]._replace(write=write)
        monkeypatch.setitem(FORMATS, form, changed)
    done = run_command(
        *("export", f"--workdir={student}", f"--output={tmp_path}", "--images=20"),
        "--format=saved_model,onnx,stablehlo",
    )
    assert done.returncode == 1
    there = [tmp_path / "1", tmp_path / "stablehlo" / "1"]
    assert [str(path) for path in there] == [
        line.removeprefix("exported ")
        for line in done.stdout.splitlines()
        if line.startswith("exported ")
    ]
    assert all((path / "export.json").exists() for path in there)
    assert not (tmp_path / "onnx").exists()
    assert done.stderr.splitlines()[-3:] == [
        "error: the int8 export is another model",
        "the int8 export is another model",
        f"The rest was exported: StableHLO ({there[0]}), StableHLO ({there[1]})",
    ]


def test_that_nothing_was_exported_is_said_where_it_is_so(student, tmp_path, monkeypatch):
    monkeypatch.setitem(FORMATS, "stablehlo", FORMATS["stablehlo"]._replace(write=(refuse,)))
    with pytest.raises(RunFailed, match=r"another model\nNothing was exported$"):
        export.run(student, tmp_path / "out", formats=("stablehlo",), images=20)
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write to .*\nNothing was exported$") as error:
        export.run(student, tmp_path / "file", formats=("stablehlo",), images=20)
    assert error.value.exit_code == 2


def test_an_export_elsewhere_writes_nothing_to_the_workdir(student, tmp_path):
    def state():
        return {path: path.stat().st_mtime_ns for path in (student, *student.rglob("*"))}

    before = state()
    opened = []
    watching = True

    def watch(event, details):
        if watching and event == "open" and isinstance(details[0], str):
            path, mode, flags = details
            if str(student) in path and flags & (os.O_WRONLY | os.O_RDWR):
                opened.append((path, mode))

    sys.addaudithook(watch)
    version = export.run(student, tmp_path, formats=("stablehlo",), images=20)["stablehlo"]
    watching = False
    assert version.path == tmp_path / "stablehlo" / "1"
    assert opened == []
    assert state() == before


def test_the_student_of_published_weights_can_be_exported_everywhere():
    config = load_file(str(REPOSITORY / "configs" / "distill" / "published.py"))
    model = resolve(ModelConfig, config["model"])
    assert obstacles(model.with_classes(3).network()) == {}
