"""`distill auto`: a student in one line."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
import small_photos
from published import big_vision_arrays
from support import final_params, run_command

import distill
from distill.auto import choose as choosing
from distill.auto import finish
from distill.auto.measured import Rig
from distill.auto.request import RECORD, Request, remember, remembered
from distill.config import load_file, resolve
from distill.errors import UserError
from distill.export.model import NotInstalled
from distill.runs.distillation import DistillConfig
from distill.runs.evaluated import FILE
from distill.train.workdir import Workdir
from pipelines import auto, distill_student


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    """A ViT of five classes, none of which the images have."""
    path = tmp_path_factory.mktemp("npz") / "vit.npz"
    np.savez(path, **big_vision_arrays("original", "cls"))
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return small_photos.in_classes(tmp_path_factory.mktemp("data") / "photos", 8)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Few steps are timed, and one format is written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.auto.measured._STEPS", 1)
        patch.setattr(finish, "EXPORTED", ())
        yield


@pytest.fixture(scope="module")
def ended(vit, photos, tmp_path_factory):
    """A whole line, and what it printed."""
    out = tmp_path_factory.mktemp("auto") / "out"
    return out, run_command("auto", photos, f"--teacher={vit}", "--budget=2epochs", f"--out={out}")


@pytest.mark.slow
def test_a_line_chooses_trains_measures_and_exports(ended):
    out, done = ended
    assert done.returncode == 0, done.stderr
    said = " ".join(
        f"{row['chosen']} {row['why']}" for row in json.loads((out / RECORD).read_text())["choices"]
    )
    for part in ("root/class/image", "half its width", "16 images", "2 epochs", "learned beside"):
        assert part in said and part.split()[-1] in done.stdout
    assert "use it    distill predict" in done.stdout
    names = [json.loads(line)["name"] for line in (out / FILE).read_text().splitlines()]
    assert names == ["transfer"] and (out / "summary.json").exists()
    assert (out / "report.html").exists()
    figures = json.loads((out / "teacher_figures.json").read_text())
    assert 0 <= figures["probe/accuracy"] <= 1


@pytest.mark.slow
def test_the_written_config_gives_the_same_parameters(ended, tmp_path):
    out, _ = ended
    config = resolve(DistillConfig, load_file(str(out / "config.py")))
    distill_student.run(config, Workdir(tmp_path / "again"), overview=False)
    for ours, theirs in zip(
        *map(jax.tree.leaves, (final_params(out), final_params(tmp_path / "again"))), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_the_same_line_goes_on_without_measuring(ended, vit, photos, monkeypatch, capsys):
    out, _ = ended
    monkeypatch.setattr(Rig, "measure", None)
    lines = (out / FILE).read_text()
    auto.run(str(photos), str(vit), budget="2epochs", out=out)
    assert "nothing is measured again" in capsys.readouterr().err
    assert (out / FILE).read_text() == lines


@pytest.mark.slow
def test_another_line_is_refused_in_the_same_place(ended, vit, photos):
    out, _ = ended
    with pytest.raises(UserError, match="budget: '2epochs' there, '3epochs' now"):
        auto.run(str(photos), str(vit), budget="3epochs", out=out)


def test_a_dry_run_writes_the_config_and_nothing_else(vit, tmp_path, capsys, monkeypatch):
    data, out = small_photos.flat(tmp_path / "flat", 8, damaged=1), tmp_path / "out"
    given = {"train.batch_size": "4", "seed": "3", "matching.losses.kl": "0.5"}
    given["train.total_examples"] = "9"
    chosen = auto.run(str(data), str(vit), "mu/8", "8images", out, dry_run=True, overrides=given)
    assert sorted(file.name for file in out.iterdir()) == ["auto.json", "config.py"]
    config = chosen.config
    assert config.train.batch_size == 4 and config.train.total_steps is None
    assert config.train.steps(8) == 2 and config.seed == 3
    assert config.matching.losses.kl == 0.5 and config.data.source == f"images:{data}"
    assert chosen.match == "logits" and config.data.validation_split is None
    said = capsys.readouterr().out
    assert "1 of 8 looked at" in said and "seed" in said and "as you say" in said
    monkeypatch.setattr(Rig, "measure", None)
    line = (str(data), str(vit), "mu/8", "8images", out)
    assert auto.run(*line, dry_run=True, overrides=given) == chosen
    assert "nothing is measured again" in capsys.readouterr().err
    # Of what has trained nothing, another line takes the place, and a run's claim with it.
    monkeypatch.undo()
    monkeypatch.setattr("distill.auto.measured._STEPS", 1)
    (out / "config.json").write_text("{}")
    again = auto.run(*line[:3], "16images", out, dry_run=True, overrides=given)
    assert again.config == config and not (out / "config.json").exists()
    assert "another line has chosen and trained nothing" in capsys.readouterr().err
    assert json.loads((out / RECORD).read_text())["request"]["budget"] == "16images"
    (out / "metrics.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(UserError, match=r"budget: .* now\nChoose another --out"):
        auto.run(*line, dry_run=True, overrides=given)


def test_what_another_process_is_at_work_on_is_not_replaced(photos, tmp_path):
    out = tmp_path / "out"
    request = Request(data=str(photos))
    out.mkdir()
    remember(request, out, "pretrain", "labels", [])
    (out / "config.py").write_text("")
    other = Request(data=str(photos), budget="3epochs")
    assert remembered(other, out) is None
    script = (
        "import fcntl, sys\n"
        "lock = open(sys.argv[1], 'wb')\n"
        "fcntl.lockf(lock, fcntl.LOCK_EX)\n"
        "print(flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(out / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None and process.stdout.readline()
        with pytest.raises(UserError, match="is of another line"):
            remembered(other, out)
        process.communicate()
    assert remembered(other, out) is None


@pytest.mark.parametrize("place", ["", "out", "a/b"])
@pytest.mark.parametrize("kind", ["", "folder:"])
def test_nothing_is_written_among_the_images(kind, place, photos, vit, monkeypatch):
    monkeypatch.setattr(choosing, "find_teacher", None)
    for dry_run in (False, True):
        with pytest.raises(UserError, match="choose another --out, outside of it"):
            auto.run(f"{kind}{photos}", str(vit), out=photos / place, dry_run=dry_run)
    monkeypatch.chdir(photos)
    with pytest.raises(UserError, match="would be read as images and classes"):
        auto.run(f"{kind}.", str(vit))
    assert sorted(one.name for one in photos.iterdir()) == sorted(small_photos.CLASSES)


def test_what_is_mistyped_is_said_before_anything_is_opened(vit, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(choosing, "find_teacher", None)
    for wrong, message in [
        (dict(budget="soon"), "--budget is 'soon'"),
        (dict(student="XXL/16"), "--student is 'XXL/16'"),
    ]:
        with pytest.raises(UserError, match=message):
            auto.run(str(photos), str(vit), out=tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "expected one DATA, and there is none"), (["a", "b"], "there are 2: a, b")],
)
def test_one_argument_is_the_data(arguments, message):
    done = run_command("auto", *arguments)
    assert done.returncode == 2 and message in done.stderr


@pytest.mark.slow
def test_what_can_be_written_is_exported_once_and_the_rest_is_said(ended, monkeypatch, capsys):
    out, _ = ended
    config = resolve(DistillConfig, load_file(str(out / "config.py")))
    chosen = choosing.Chosen(out, "distill_student", "embedding", config)
    check = finish.check_format
    monkeypatch.setattr(finish, "EXPORTED", ("stablehlo", "onnx"))

    def missing(form, model):
        if form == "onnx":
            raise NotInstalled("the format onnx needs what is not there: pip install it")
        check(form, model)

    monkeypatch.setattr(finish, "check_format", missing)
    for _ in range(2):
        finish.export(chosen)
        assert "left out onnx: the format onnx needs what is not" in capsys.readouterr().err
    assert [one.name for one in (out / "export").iterdir()] == ["stablehlo"]
    assert [one.name for one in (out / "export/stablehlo").iterdir()] == ["1"]


@pytest.mark.slow
def test_python_distils_and_uses_the_student(ended, vit, photos, capsys):
    out, _ = ended
    model = distill.distil(photos, teacher=vit, budget="2epochs", out=out)
    assert isinstance(model, distill.Model) and model.class_names == small_photos.CLASSES
    answers = model.predict(photos / "level")
    assert len(answers) == 8 and answers.embedding.shape == (8, 12)
    assert 0 <= model.evaluate(str(photos))["data/accuracy"] <= 1
