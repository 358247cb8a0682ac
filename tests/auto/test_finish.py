"""What a line says at its end."""

import types
from pathlib import Path
from typing import Any

import pytest

from distill.auto import finish
from distill.auto.choose import Chosen
from distill.errors import UserError
from distill.export.model import NotInstalled


@pytest.fixture
def chosen(monkeypatch):
    """Makes what was chosen, of a run that recorded a summary and so many classes."""

    def make(summary, classes=3, match: Any = "logits", evals=(), command: Any = "distill_student"):
        monkeypatch.setattr(finish, "read_summary", lambda workdir: summary)
        model = types.SimpleNamespace(num_classes=classes)
        monkeypatch.setattr(finish, "recorded_model", lambda workdir: model)
        config: Any = types.SimpleNamespace(evals=dict.fromkeys(evals))
        return Chosen(Path("OUT"), command, match, config)

    return make


def test_figures_stand_beside_the_teachers_or_in_a_table_of_their_own(chosen, capsys):
    summary = {"val/accuracy": 0.5, "val/agreement": 0.25, "val/kl": 1.5, "views/accuracy": 0.4}
    measured = {"student": {"knn/20": 0.6}, "teacher": {"knn/20": 0.8, "val/accuracy": 0.75}}
    finish.conclude(chosen(summary), measured)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["val/accuracy", "0.5000", "0.7500"] in lines
    assert ["knn/20", "0.6000", "0.8000"] in lines
    assert ["val/agreement", "with", "the", "teacher", "0.2500"] in lines
    assert ["views/accuracy", "0.4000"] in lines
    assert not any("—" in line for line in lines)


def test_a_model_without_a_teacher_has_one_table(chosen, capsys):
    finish.conclude(chosen({"val/accuracy": 0.5}, match="labels", command="pretrain"), {})
    said = capsys.readouterr().out
    assert "teacher" not in said and "student" not in said and "model" in said


@pytest.mark.parametrize(
    ("given", "embeddings"),
    [
        (dict(classes=3), False),
        (dict(classes=0, match="tokens"), True),
        (dict(classes=0, match="words", evals=("zeroshot",)), False),
        (dict(classes=0, match="words", evals=("views",)), True),
    ],
)
def test_what_to_type_next_is_what_the_model_can_do(given, embeddings, chosen, capsys):
    finish.conclude(chosen({}, **given), {})
    (line,) = [one for one in capsys.readouterr().out.splitlines() if one.startswith("use it")]
    assert line.endswith("FOLDER --embeddings --output=FILE.npz" if embeddings else "| FOLDER")


def test_formats_are_named_that_hold_the_model_installed_or_not(monkeypatch):
    def check(form, model):
        if form == "hf":
            raise UserError("the format hf cannot hold this model")
        if form == "timm":
            raise NotInstalled("the format timm needs what is not there")

    monkeypatch.setattr(finish, "check_format", check)
    model: Any = None
    takes = [form for form in ("hf", "timm", "tflite") if finish._takes(form, model)]
    assert takes == ["timm", "tflite"]
