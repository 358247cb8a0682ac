"""Training and distillation need no TensorFlow; what exports say where there is none."""

import pytest
from support import arguments, run_python

from distill.export import saved_model
from distill.export.model import NotInstalled
from pipelines import demo

# Where it is not installed, importing it fails; where it is, it would be loaded for nothing.
SCRIPT = """
import sys
sys.modules["tensorflow"] = None
from pipelines import cli

commands, command = [], []
for argument in [*sys.argv[1:], "then"]:
    if argument == "then":
        commands, command = [*commands, command], []
    else:
        command.append(argument)
for command in commands:
    sys.argv = ["distill", *command]
    try:
        cli.main()
    except SystemExit as done:
        if done.code:
            sys.exit(f"{command[0]}: {done.code}")
"""


@pytest.mark.slow
def test_a_student_is_distilled_without_tensorflow(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    done = run_python(
        script,
        *("pretrain", *arguments("pretrain/digits.py", teacher), "then"),
        *("distill_student", *arguments("distill/digits.py", student)),
        f"--config.teacher.workdir={teacher}",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (student / "summary.json").exists()
    assert list(student.glob("events.out.tfevents.*"))


def test_the_demo_exports_what_it_can(monkeypatch, tmp_path, capsys):
    exported = []

    def run(workdir, formats=("saved_model",)):
        exported.extend(formats)
        for form in formats:
            if form == "saved_model":
                saved_model.require_tensorflow(form)
        return dict.fromkeys(formats, "a version")

    monkeypatch.setattr(saved_model, "TOO_NEW_JAX", (0, 0))
    monkeypatch.setattr(demo.export, "run", run)
    assert demo._export(tmp_path) == "a version"
    assert exported == ["saved_model", "stablehlo"]
    assert "exports StableHLO alone" in capsys.readouterr().err
    monkeypatch.setattr(demo.export, "run", lambda *_: (_ for _ in ()).throw(ZeroDivisionError))
    with pytest.raises(ZeroDivisionError):
        demo._export(tmp_path)


def test_a_jax_that_tensorflow_does_not_read_is_refused_in_a_line(monkeypatch):
    monkeypatch.setattr(saved_model.jax, "__version_info__", saved_model.TOO_NEW_JAX)
    monkeypatch.setattr(saved_model.jax, "__version__", "0.11.0")
    with pytest.raises(NotInstalled) as caught:
        saved_model.require_tensorflow("tflite")
    message = str(caught.value)
    assert "\n" not in message
    for part in ("tflite", "jax 0.11.0", "pip install -e '.[export]'", "--format=stablehlo"):
        assert part in message
