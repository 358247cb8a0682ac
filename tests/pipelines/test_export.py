"""Exports tell where the model comes from."""

import json

import pytest
from support import distill_config, run_python

from distill.errors import UserError
from distill.nn.fingerprint import fingerprint
from distill.parallel import MeshConfig, make_mesh
from distill.train.workdir import Workdir, read_config
from pipelines import distill_student, export
from pipelines.models import EXECUTION, load_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def student(teacher_workdir, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "little"
    config = distill_config(teacher_workdir, data__view__flip=False)
    distill_student.run(config, Workdir(path), overview=False)
    return path


@pytest.fixture(scope="module")
def exported(student):
    return export.run(student, formats=("stablehlo",), licence="apache-2.0", images=50)


def test_the_card_names_teacher_recipe_and_figures(student, exported, teacher_workdir):
    version = exported["stablehlo"].path
    assert version == student / "export" / "stablehlo" / "1"
    card = (version / "MODEL_CARD.md").read_text()
    _, params = load_model(teacher_workdir, make_mesh(MeshConfig()))
    recorded = read_config(teacher_workdir)["model"]
    model = {key: value for key, value in recorded.items() if key not in EXECUTION}
    summary = json.loads((student / "summary.json").read_text())
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
    summary = json.loads((student / "summary.json").read_text())
    (checked,) = versions["stablehlo"].checked
    assert checked.accuracy == pytest.approx(summary["test/accuracy"])


def test_a_run_of_before_fingerprints_were_recorded_has_its_teachers_workdir(
    student, teacher_workdir
):
    recorded = read_config(student)
    (student / "teachers.json").rename(student / "moved")
    found = export.describe(student, recorded, best=False)["teachers"]
    (student / "moved").rename(student / "teachers.json")
    assert found["teacher"]["source"] == str(teacher_workdir)
    assert "fingerprint" not in found["teacher"]


def test_unknown_formats_and_unfit_heads_are_refused(student):
    with pytest.raises(UserError, match="unknown format 'keras'; expected one or more of"):
        export.run(student, formats=("saved_model", "keras"))
    with pytest.raises(UserError, match="no format; expected one or more of saved_model, "):
        export.run(student, formats=())
    # Before anything is written.
    with pytest.raises(UserError, match="TFLite is written in float32 and int8, not in bfloat16"):
        export.run(student, student / "out", formats=("stablehlo", "tflite"), dtype="bfloat16")
    assert not (student / "out").exists()
    done = run_python("-m", "pipelines.export", f"--workdir={student}", "--dtype=float16")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
