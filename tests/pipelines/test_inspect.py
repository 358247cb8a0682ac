"""What a path holds, told without loading or running it."""

import json
import pickle
import zipfile

import numpy as np
import pytest
from support import run_python

from distill.config import resolve
from distill.errors import UserError
from distill.train.workdir import read_config
from pipelines import export, inspect_path
from pipelines.models import ModelConfig


def words(text: str) -> str:
    """Without the spaces that align columns."""
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


def test_a_run_and_its_checkpoint(teacher_workdir):
    model = resolve(ModelConfig, read_config(teacher_workdir)["model"])
    count = model.network().parameter_count()
    told = words(inspect_path.run(teacher_workdir))
    checkpoint = words(inspect_path.run(teacher_workdir / "checkpoints" / "10"))
    for text in (told, checkpoint):
        assert "model vit_22b 22B/2" in text
        assert f"parameters {count:,}" in text
        assert f"{count:,} values" in text
        assert "classifier/kernel float32 [16, 10]" in text
    assert "state complete" in told and "checkpoints 5, 10" in told and "test/accuracy 0." in told
    assert "step 10" in checkpoint and "items params, optimizer" in checkpoint


def test_weights_of_layers_are_told_once(tmp_path):
    from safetensors.numpy import save_file

    shapes = {f"layer.{n}.weight": (4, 3) for n in range(12)} | {"head.bias": (5,)}
    file = tmp_path / "model.safetensors"
    save_file({k: np.zeros(v, np.float32) for k, v in shapes.items()}, file, {"format": "pt"})
    told = words(inspect_path.run(file))
    assert "layer.*.weight 12 F32 [4, 3]" in told
    assert "head.bias F32 [5]" in told
    assert "13 tensors, 149 values" in told
    assert words(inspect_path.run(tmp_path)) == told


def test_arrays_are_told_and_pickles_in_them_are_not_opened(tmp_path, monkeypatch):
    file = tmp_path / "weights.npz"
    np.savez(file, kernel=np.zeros((2, 3), np.float16), code=np.array([print], object))
    monkeypatch.setattr(pickle, "load", lambda *args, **options: pytest.fail("unpickled"))
    told = words(inspect_path.run(file))
    assert "kernel float16 [2, 3]" in told
    assert "code pickled objects [1]" in told


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
    told = words(inspect_path.run(tmp_path))
    assert "files 0 of 4" in told
    assert "teacher runs/teacher, fingerprint 0123456789abcdef" in told
    assert "logits/teacher <f2 [10]" in told


@pytest.mark.slow
def test_an_export(teacher_workdir, tmp_path):
    export.run(teacher_workdir, tmp_path, formats=("stablehlo",), images=20)
    told = words(inspect_path.run(tmp_path / "stablehlo" / "1"))
    assert "format stablehlo" in told and "step 10" in told
    assert "input images uint8 [batch, 8, 8, 1]" in told
    assert "output logits float32 [batch, 10]" in told
    assert "model.jax_export" in told
    assert "stablehlo/1 stablehlo 10" in words(inspect_path.run(tmp_path))


def _truncated(path):
    path.write_bytes((500).to_bytes(8, "little") + b"{}")


def _lies(path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)


def _huge(path):
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")


def _no_arrays(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "hello")


def _bomb(path):
    """A header that claims 4 GiB, of which nearly all are there."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", b"\x93NUMPY\2\0\xff\xff\xff\xff" + b" " * 10**7)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.safetensors", _truncated, "is truncated: a header of 500 bytes"),
        ("a.safetensors", _lies, "but its header tells of"),
        ("a.safetensors", _huge, "is truncated"),
        ("a.safetensors", lambda path: path.write_bytes(b""), "is no safetensors file"),
        ("a.safetensors", lambda p: p.write_bytes(b"\2" + b"\0" * 7 + b"[]"), "damaged"),
        ("a.npz", lambda path: path.write_bytes(b"PK\3\4" + b"\0" * 50), "is no .npz file"),
        ("a.npz", _no_arrays, "is no .npz file"),
        ("a.npz", _bomb, "is no .npz file"),
        ("a.bin", lambda path: path.write_bytes(b"\x80\4."), "is a pickle.*Convert it"),
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
        inspect_path.run(tmp_path if described else tmp_path / name)


def test_the_command_takes_a_path(tmp_path):
    done = run_python("-m", "pipelines.cli", "inspect", tmp_path / "nothing")
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path / 'nothing'} does not exist\n"
