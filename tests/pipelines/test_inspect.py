"""What a path holds, told without loading or running it."""

import dataclasses
import json
import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from big_vision_reference import pair_arrays, text_arrays
from published import big_vision_arrays
from support import run_command

from distill.config import resolve
from distill.errors import Damaged, UserError
from distill.export.verify import Checked
from distill.inspect.path import tell
from distill.json_files import read_json
from distill.nn.family import ModelConfig
from distill.train.workdir import read_config
from pipelines import export


def words(text: str) -> str:
    """Without the spaces that align columns."""
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


@pytest.fixture
def workdir(teacher_workdir, tmp_path):
    """A run that has written no checkpoint."""
    path = tmp_path / "runs" / "begun"
    path.mkdir(parents=True)
    shutil.copy(teacher_workdir / "config.json", path)
    return path


CHECKED = Checked("ONNX", 1_230_000, 2e-6, 0.5, 0.125, {"1": 3.5, "32": 40.25})


def write_export(path, **changes):
    """What an exported version says of itself."""
    path.mkdir(parents=True)
    described = {
        "format": "onnx",
        "dtype": "float32",
        "signature": None,
        "checked": [dataclasses.asdict(CHECKED)],
        "jax": "0.10.2",
        "about": {"step": 10},
    }
    (path / "export.json").write_text(json.dumps(described | changes))
    return path


def test_a_run_and_its_checkpoint(teacher_workdir):
    model = resolve(ModelConfig, read_config(teacher_workdir)["model"])
    count = model.network().parameter_count()
    told = words(tell(teacher_workdir))
    checkpoint = words(tell(teacher_workdir / "checkpoints" / "10"))
    for text in (told, checkpoint):
        assert "model vit_22b 22B/2" in text
        assert f"parameters {count:,}" in text
        assert f"{count:,} values" in text
        assert "classifier/kernel float32 [16, 10]" in text
    assert "state complete" in told and "checkpoints 5, 10" in told and "test/accuracy 0." in told
    assert "step 10" in checkpoint and "items params, optimizer" in checkpoint


def test_the_checkpoints_of_a_run(teacher_workdir):
    folder = teacher_workdir / "checkpoints"
    header, _, *rows = tell(folder).splitlines()[2:]
    assert header.split() == ["step", "items", "MB"]
    for step, row in zip((5, 10), rows, strict=True):
        files = [file for file in (folder / str(step)).rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in files) / 1e6
        assert words(row) == f"{step} params, optimizer {size:.2f}"


def test_the_best_weights_of_a_run_and_what_they_were_kept_for(workdir, teacher_workdir):
    best = workdir / "best" / "10"
    shutil.copytree(teacher_workdir / "checkpoints" / "10" / "params", best / "params")
    assert "kept for" not in tell(best)
    (best / "metrics").mkdir()
    kept = best / "metrics" / "metrics"
    kept.write_text(json.dumps({"metric": "val/accuracy", "value": 0.71875}))
    assert "kept for val/accuracy 0.7188" in words(tell(best))
    assert "best step 10, val/accuracy 0.7188" in words(tell(workdir))
    kept.write_text("{}")
    with pytest.raises(UserError, match="metrics is damaged: it names no metric and value"):
        tell(best)


def test_runs_in_a_directory(workdir, teacher_workdir):
    runs = workdir.parent
    (runs / "teacher").symlink_to(teacher_workdir)
    assert "teacher" not in tell(runs), "links may lead in circles"
    (runs / "teacher").unlink()
    shutil.copytree(teacher_workdir, runs / "teacher")
    accuracy = read_json(teacher_workdir / "summary.json")["test/accuracy"]
    student = read_config(teacher_workdir) | {"matching": {}}
    (runs / "broken").mkdir()
    (runs / "broken" / "config.json").write_text("{")
    (runs / "students" / "one").mkdir(parents=True)
    (runs / "students" / "one" / "config.json").write_text(json.dumps(student))
    write_export(runs / "teacher" / "export" / "onnx" / "1")
    told = words(tell(runs)).splitlines()
    assert told[0] == f"{runs}: runs, exports"
    assert told[4:8] == [
        "begun pretrain 0 not complete",
        "broken damaged",
        "students/one distill_student 0 not complete",
        f"teacher pretrain 10 complete test/accuracy {accuracy:.4f}",
    ]
    assert told[-1] == "teacher/export/onnx/1 onnx 10"


def test_a_run_that_cannot_be_written_is_told(workdir, monkeypatch):
    def refuse(*args, **options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert "state not complete" in words(tell(workdir))


def test_exports_of_a_run(workdir):
    write_export(workdir / "export" / "1")
    write_export(workdir / "export" / ".exporting-x" / "model")
    damaged = write_export(workdir / "export" / "2")
    (damaged / "export.json").write_text("[]")
    told = words(tell(workdir))
    assert "1 onnx 10\n2 damaged" in told
    assert ".exporting" not in told


def test_what_was_checked_of_an_export(tmp_path):
    told = words(tell(write_export(tmp_path / "1")))
    assert "ONNX 1.23 2.0e-06 50.00% 12.50% 3.5 ms 40.2 ms" in told


def test_when_an_export_was_written_and_what_it_requires(tmp_path):
    earlier = words(tell(write_export(tmp_path / "1")))
    assert "written" not in earlier
    requires = {"opset": 18, "onnxruntime": ">=1.14"}
    changes = {"written": "2026-11-28", "requires": requires}
    told = words(tell(write_export(tmp_path / "2", **changes)))
    assert "written 2026-11-28\nopset 18\nonnxruntime >=1.14\n" in told


@pytest.mark.parametrize(("year", "past"), [(2020, True), (2999, False)])
def test_how_long_jax_promises_to_read_an_export(year, past, tmp_path):
    changes = {"format": "stablehlo", "written": f"{year}-01-31"}
    told = words(tell(write_export(tmp_path / "1", **changes)))
    assert f"written {year}-01-31; JAX promises to read it until {year}-07-31 at most" in told
    assert ("which is past" in told) == past


@pytest.mark.parametrize("written", ["yesterday", 5])
def test_a_day_that_is_none_is_damage(written, tmp_path):
    changes = {"format": "stablehlo", "written": written}
    with pytest.raises(UserError, match="is not the description of an export"):
        tell(write_export(tmp_path / "1", **changes))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", {"data": {}, "train": {}}, "is not the description of a run.*'source'"),
        ("config.json", {"data": [], "train": {}}, "is not the description of a run"),
        ("summary.json", [1], "is not the description of a run's figures"),
        ("summary.json", {"test/accuracy": None}, "is not the description of a run's figures"),
        ("teachers.json", [1], "is damaged: it holds no object"),
        ("teachers.json", {"teacher": {}}, "is not the description of teachers"),
    ],
)
def test_a_damaged_description_of_a_run_is_named(file, content, message, workdir):
    (workdir / file).write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"{workdir / file} {message}"):
        tell(workdir)


def test_a_model_of_another_family_is_refused_by_the_name_of_its_file(workdir, tmp_path):
    recorded = read_config(workdir)
    recorded["model"]["family"] = "swin"
    (workdir / "config.json").write_text(json.dumps(recorded))
    version = write_export(tmp_path / "1", about={"model": recorded["model"]})
    for path, file in ((workdir, "config.json"), (version, "export.json")):
        with pytest.raises(UserError, match=f"{path / file} .*\n.*config.family is 'swin'"):
            tell(path)


def test_a_damaged_checkpoint_is_named(teacher_workdir, tmp_path):
    path = tmp_path / "10"
    shutil.copytree(teacher_workdir / "checkpoints" / "10", path)
    described = json.loads((path / "params" / "_METADATA").read_text())
    (path / "params" / "_METADATA").write_text("[]")
    with pytest.raises(Damaged, match=f"{path / 'params'} is damaged: .*_METADATA has 2 bytes"):
        tell(path)
    # As earlier versions wrote it.
    (path / "params" / "checksums.json").unlink()
    for damaged in ([], {}, described | {"tree_metadata": 1}):
        (path / "params" / "_METADATA").write_text(json.dumps(damaged))
        with pytest.raises(UserError, match=f"{path / 'params'} holds no parameters, or is dam"):
            tell(path)


@pytest.mark.parametrize(
    ("part", "whole"),
    [
        ("runs/begun/config.json", "a run: distill inspect .*/runs/begun$"),
        ("runs/begun/export/1/model.onnx", "an export: distill inspect .*/export/1$"),
        ("runs/begun/export/1/variables", "an export: distill inspect .*/export/1$"),
        ("runs/begun/checkpoints/5/params", "a checkpoint: distill inspect .*/checkpoints/5$"),
    ],
)
def test_of_a_part_the_whole_is_named(part, whole, workdir, tmp_path):
    export = write_export(workdir / "export" / "1")
    (export / "model.onnx").write_bytes(b"\0")
    (export / "variables").mkdir()
    (workdir / "checkpoints" / "5" / "params").mkdir(parents=True)
    with pytest.raises(UserError, match=f"{tmp_path / part} is part of {whole}"):
        tell(tmp_path / part)


def test_a_directory_of_pickles_is_refused_with_advice(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\4.")
    with pytest.raises(UserError, match=r"pytorch_model\.bin is a pickle.*weights_only=True"):
        tell(tmp_path)


def test_weights_of_layers_are_told_once(tmp_path):
    from safetensors.numpy import save_file

    shapes = {f"layer.{n}.weight": (4, 3) for n in range(12)} | {"head.bias": (5,)}
    file = tmp_path / "model.safetensors"
    save_file({k: np.zeros(v, np.float32) for k, v in shapes.items()}, file, {"format": "pt"})
    told = words(tell(file))
    assert "layer.*.weight 12 F32 [4, 3]" in told
    assert "head.bias F32 [5]" in told
    assert "13 tensors, 149 values" in told
    assert words(tell(tmp_path)) == told


def test_arrays_are_told(tmp_path):
    file = tmp_path / "weights.npz"
    np.savez(file, kernel=np.zeros((2, 3), np.float16), step=np.int64(3))
    told = words(tell(file))
    assert "kernel float16 [2, 3]" in told and "step int64 []" in told
    np.savez(file, kernel=np.zeros((2, 3), np.float16), code=np.array([print], object))
    with pytest.raises(UserError, match=r"code\.npy holds pickled Python objects"):
        tell(file)


def test_a_file_cannot_steer_the_terminal(tmp_path):
    from safetensors.numpy import save_file

    file = tmp_path / "a.safetensors"
    save_file({"a": np.zeros(2)}, file, {"b\nc": "d\x1b]0;" + "e" * 10_000})
    told = tell(file)
    assert "\x1b" not in told and "b\nc" not in told
    assert len(told) < 2000


def test_stored_targets(tmp_path):
    teacher = {"fingerprint": "0123456789abcdef", "source": "runs/teacher"}
    views = {"data": {"source": "digits", "train_split": "train"}, "seed": 3}
    described = {
        "examples": 1000,
        "batch_size": 10,
        "examples_per_file": 300,
        "arrays": {"logits/teacher": ["<f2", [10]]},
        "about": {"views": views, "teachers": {"teacher": teacher}, "jax": "0.10.2"},
    }
    (tmp_path / "store.json").write_text(json.dumps(described))
    told = words(tell(tmp_path))
    assert "files 0 of 4" in told
    assert "teacher runs/teacher, fingerprint 0123456789abcdef" in told
    assert "logits/teacher <f2 [10]" in told


@pytest.mark.usefixtures("runtimes_in_this_process")
@pytest.mark.slow
def test_an_export(teacher_workdir, tmp_path):
    export.run(teacher_workdir, tmp_path, formats=("stablehlo",), images=20)
    told = words(tell(tmp_path / "stablehlo" / "1"))
    assert "format stablehlo" in told and "step 10" in told
    assert "input images uint8 [batch, 8, 8, 1]" in told
    assert "output logits float32 [batch, 10]" in told
    assert "model.jax_export" in told
    assert "stablehlo/1 stablehlo 10" in words(tell(tmp_path))


def _safetensors(header, data=b"\0" * 8):
    """Writes a file with that header."""
    text = json.dumps(header).encode()
    return lambda path: path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def _tensor(*shape):
    return {"dtype": "F32", "shape": shape, "data_offsets": [0, 8]}


def _no_arrays(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "hello")


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.safetensors", _safetensors({"a": _tensor(2)}, b"\0" * 4), "safetensors is damaged"),
        ("a.safetensors", _safetensors({"a": _tensor(1_000_000)}), "safetensors is damaged"),
        ("a.safetensors", _safetensors({"a": _tensor(2), "__metadata__": [1]}), "is damaged"),
        ("a.safetensors", _safetensors([]), "safetensors is damaged"),
        ("a.safetensors", lambda p: p.write_bytes((2**62).to_bytes(8, "little")), "is damaged"),
        ("a.safetensors", lambda path: path.write_bytes(b""), "is damaged"),
        ("a.npz", lambda path: path.write_bytes(b"PK\3\4" + b"\0" * 50), "damaged or no .npz file"),
        ("a.npz", _no_arrays, r"a\.txt, which is no array"),
        ("a.bin", lambda path: path.write_bytes(b"\x80\4."), "is a pickle.*weights_only=True"),
        ("a.txt", lambda path: path.write_text("hello"), "none of the files that are known"),
        ("store.json", lambda path: path.write_text("{}"), "is not the description of a store"),
        ("store.json", lambda path: path.write_text("{"), "damaged"),
        ("export.json", lambda path: path.write_text("[]"), "is not the description of an export"),
        ("config.json", lambda path: path.write_text("{}"), "is neither the workdir of a run"),
        ("_CHECKPOINT_METADATA", lambda path: path.write_text("{}"), "holds no parameters"),
    ],
)
def test_rubbish_is_refused(name, write, message, tmp_path):
    write(tmp_path / name)
    described = name in ("store.json", "export.json", "config.json", "_CHECKPOINT_METADATA")
    with pytest.raises(UserError, match=message):
        tell(tmp_path if described else tmp_path / name)


def test_a_path_that_cannot_be_looked_up_is_refused():
    with pytest.raises(UserError, match="cannot be read: File name too long"):
        tell(Path("a" * 300))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a path: distill inspect PATH"),
        (("a", "b"), "unexpected argument 'b'"),
        (("--path", "a", "b"), "unexpected argument 'b'"),
    ],
)
def test_the_command_takes_one_path(arguments, message):
    done = run_command("inspect", *arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_the_command_takes_a_path(tmp_path):
    done = run_command("inspect", tmp_path / "nothing")
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path / 'nothing'} does not exist\n"


def test_a_published_model_is_told_with_what_it_is_fed(tmp_path):
    np.savez(tmp_path / "vit.npz", **big_vision_arrays("original", "cls"))
    text = words(tell(tmp_path / "vit.npz"))
    assert "published big_vision" in text
    assert "shown the central 32×32 pixels of the image with its shorter side made 36" in text
    np.savez(tmp_path / "other.npz", weight=np.zeros(3, np.float32))
    text = words(tell(tmp_path / "other.npz"))
    assert "no published model that can be read" in text and "weight" in text


def test_a_pair_is_told_with_both_towers_its_scale_and_its_bias(tmp_path):
    arrays, *_ = pair_arrays()
    np.savez(tmp_path / "siglip.npz", **arrays)
    text = words(tell(tmp_path))
    assert "published big_vision" in text and "images [32, 32, 3]" in text
    assert "text tower siglip" in text and "texts 6 tokens of 19" in text
    assert "width 36\ndepth 3\npool last" in text
    assert "embedding 24\nscale 112\nbias -16.5" in text


def test_a_text_tower_alone_is_told(tmp_path):
    np.savez(tmp_path / "text.npz", **text_arrays(pool="map"))
    text = words(tell(tmp_path / "text.npz"))
    assert "text tower siglip" in text and "pool map" in text
    assert "scale" not in text.partition("tensor")[0] and "images" not in text


def test_a_pair_that_is_damaged_is_told_with_what_is_wrong(tmp_path):
    arrays, *_ = pair_arrays()
    del arrays["params/t"]
    np.savez(tmp_path / "siglip.npz", **arrays)
    text = words(tell(tmp_path))
    assert "published big_vision" in text
    assert "no pair that can be read" in text and "is no siglip pair" in text
