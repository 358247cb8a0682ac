"""What is refused of a file of weights, by whom, and at what cost."""

import io
import json
import pickle
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from published import big_vision_arrays
from safetensors.numpy import save_file

from distill.errors import UserError
from teachers.pretrained import open_published
from teachers.pretrained.settings import Settings


class Bomb:
    """What a pickle runs when it is read."""

    def __reduce__(self):
        return (open, ("ran", "w"))


@pytest.fixture
def npz(tmp_path, monkeypatch):
    """Writes arrays, with some replaced, to a file; None takes one away."""
    monkeypatch.chdir(tmp_path)

    def write(**changes):
        arrays = big_vision_arrays("original", "cls") | changes
        file = tmp_path / "vit.npz"
        np.savez(file, **{name: value for name, value in arrays.items() if value is not None})
        return file

    return write


def timm_arrays():
    """A model of width 32, one layer and four heads in timm's names."""
    rng = np.random.default_rng(0)
    shapes = {
        "cls_token": (1, 1, 32),
        "pos_embed": (1, 5, 32),
        "patch_embed.proj.weight": (32, 3, 8, 8),
        "patch_embed.proj.bias": (32,),
        "blocks.0.norm1.weight": (32,),
        "blocks.0.norm1.bias": (32,),
        "blocks.0.attn.qkv.weight": (96, 32),
        "blocks.0.attn.qkv.bias": (96,),
        "blocks.0.attn.proj.weight": (32, 32),
        "blocks.0.attn.proj.bias": (32,),
        "blocks.0.norm2.weight": (32,),
        "blocks.0.norm2.bias": (32,),
        "blocks.0.mlp.fc1.weight": (64, 32),
        "blocks.0.mlp.fc1.bias": (64,),
        "blocks.0.mlp.fc2.weight": (32, 64),
        "blocks.0.mlp.fc2.bias": (32,),
        "norm.weight": (32,),
        "norm.bias": (32,),
        "head.weight": (3, 32),
        "head.bias": (3,),
    }
    return {k: rng.standard_normal(shape).astype(np.float32) for k, shape in shapes.items()}


@pytest.fixture
def timm(tmp_path):
    """Writes the same for timm's safetensors."""

    def write(**changes):
        arrays = timm_arrays() | changes
        file = tmp_path / "model.safetensors"
        save_file({name: value for name, value in arrays.items() if value is not None}, file)
        return file

    return write


def test_every_tensor_that_does_not_fit_is_named(npz, timm):
    file = npz(
        **{
            "cls": None,
            "head/bias": np.zeros(6, np.float32),
            "Transformer/encoderblock_1/LayerNorm_2/scale": None,
            "extra/kernel": np.zeros((2, 3), np.float32),
        }
    )
    with pytest.raises(UserError) as error:
        open_published(file)
    message = str(error.value)
    # Without a class token it is a model whose position embedding has one row too many.
    assert "is [1, 17, 24]; expected [1, 16, 24]" in message
    assert "head/bias is [6]; expected [5]" in message
    assert "Transformer/encoderblock_1/LayerNorm_2/scale is missing; expected [24]" in message
    assert "extra/kernel [2, 3] belongs to nothing in the model" in message

    file = timm(
        **{
            "blocks.0.attn.qkv.bias": np.zeros(97, np.float32),
            "norm.weight": None,
            "blocks.0.ls9": np.zeros(1, np.float32),
        }
    )
    with pytest.raises(UserError) as error:
        open_published(file, heads=4)
    message = str(error.value)
    assert "blocks.0.attn.qkv.bias is [97]; expected [96]" in message
    assert "norm.weight is missing; expected [32]" in message
    assert "blocks.0.ls9 [1] belongs to nothing" in message


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_a_truncated_or_foreign_file_is_refused(npz, timm, kind):
    file = npz() if kind == "npz" else timm()
    whole = file.read_bytes()
    for content in (whole[:-100], whole[: len(whole) // 2], whole[:10], b"", b"<html>404</html>"):
        file.write_bytes(content)
        with pytest.raises(UserError, match=rf"is damaged or no \.{kind} file"):
            open_published(file)
    # A bit that flipped shows when it is read; safetensors has no checksum.
    if kind == "npz":
        file.write_bytes(whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:])
        with pytest.raises(UserError, match="is damaged"):
            open_published(file).read()


def test_a_safetensors_header_that_lies_is_refused(tmp_path):
    def write(header, data=b""):
        text = json.dumps(header).encode()
        file = tmp_path / "model.safetensors"
        file.write_bytes(struct.pack("<Q", len(text)) + text + data)
        return file

    huge = {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}
    wrong = {"dtype": "F32", "shape": [4], "data_offsets": [0, 4]}
    for header, data in ({"a": huge}, b""), ({"a": wrong}, b"1234"):
        with pytest.raises(UserError, match="is damaged"):
            open_published(write(header, data))
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")
    with pytest.raises(UserError, match="is damaged"):
        open_published(tmp_path)


def test_integers_are_no_weights(timm, npz):
    with pytest.raises(UserError, match=r"norm\.bias is I32; expected floating-point"):
        open_published(timm(**{"norm.bias": np.zeros(32, np.int32)}), heads=4).read()
    with pytest.raises(UserError, match="head/bias is int32; expected floating-point"):
        open_published(npz(**{"head/bias": np.zeros(5, np.int32)})).read()


def test_pickled_objects_in_an_npz_are_refused_and_not_run(npz, tmp_path):
    for name in ("head/bias", "opt/state"):
        file = npz(**{name: np.array([Bomb()], dtype=object)})
        with pytest.raises(UserError, match=f"{name}.npy holds pickled Python objects"):
            open_published(file)
    assert not (tmp_path / "ran").exists()
    # The bomb is a real one.
    pickle.loads(pickle.dumps(Bomb())).close()  # noqa: S301
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".ckpt"])
def test_pickles_are_refused_with_advice(tmp_path, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / f"model{suffix}"
    file.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match=r"is a pickle.*safetensors\.torch\.save_file"):
        open_published(file)
    assert not (tmp_path / "ran").exists()


def header_of(shape, descr="<f4"):
    out = io.BytesIO()
    content = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, content)
    return out.getvalue()


# What Python's parser or NumPy would choke on, or run.
HEADERS = (
    "__import_('os')",
    "{'descr': '<f4',",
    "(" * 5000,
    "-" * 9000,
    "{[]: 1}",
    "{'descr': (), 'fortran_order': False, 'shape': (4,), }",
    "{'descr': '<f3', 'fortran_order': False, 'shape': (4,), }",
    "{'descr': '<q4', 'fortran_order': False, 'shape': (4,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 5), }",
    "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4,), }",
)


def written(header):
    """The start of an array with this header."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()


def test_what_a_member_declares_must_be_what_it_has(tmp_path):
    file = tmp_path / "vit.npz"
    for content, message in (
        (header_of((10**12,)) + bytes(40), r"declares float32\[1000000000000\], but has 40 bytes"),
        (header_of((4,)) + bytes(40), "but has 40 bytes"),
        (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + bytes(40), "another .npy format"),
        (b"garbage", "is damaged"),
        # Elements of no bytes, of which there may be any number.
        (header_of((10**12,), "|V0"), "but has 0 bytes"),
        *((written(header), "is no array of numbers") for header in HEADERS),
    ):
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("embedding/kernel.npy", content)
        with pytest.raises(UserError, match=message):
            open_published(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("embedding/kernel.npy", header_of((4,)) + bytes(16))
        archive.writestr("run.py", "print()")
    with pytest.raises(UserError, match=r"run\.py, which is no array"):
        open_published(file)


def test_a_byte_that_changed_is_the_users_error_or_none(npz):
    """Wherever it is: in the archive's lists, in headers, among the numbers."""
    file, rng = npz(), np.random.default_rng(0)
    whole = file.read_bytes()
    refused = 0
    # The archive's list of members is at its end, and every member begins with a header.
    starts = [m.start() for m in re.finditer(b"NUMPY", whole)]
    near = rng.choice(starts, 100) + rng.integers(0, 80, 100)
    for place in [*near, *rng.integers(len(whole) - 4000, len(whole), 100)]:
        changed = bytearray(whole)
        changed[place] = rng.integers(256)
        file.write_bytes(changed)
        try:
            open_published(file).read()
        except UserError:
            refused += 1
    assert 100 < refused < 200


def test_arrays_in_fortrans_order_and_other_precisions_are_read(npz):
    arrays = big_vision_arrays("original", "cls")
    kernel = arrays["head/kernel"]
    expected = open_published(npz()).read()["classifier"]["kernel"]
    for stored in (np.asfortranarray(kernel), kernel.astype(">f8"), kernel.astype("<f4")):
        read = open_published(npz(**{"head/kernel": stored})).read()["classifier"]["kernel"]
        np.testing.assert_array_equal(read, expected)
    half = kernel.astype(jnp.bfloat16)
    read = open_published(npz(**{"head/kernel": half})).read()["classifier"]["kernel"]
    np.testing.assert_array_equal(read, half.astype(np.float32))


def test_names_that_cannot_be_shown_are_refused(npz, timm):
    for name in ("\x1b[31mred", "a" * 300):
        with pytest.raises(UserError, match=r"a tensor is called '(\\x1b|aaa)"):
            open_published(timm(**{name: np.zeros(3, np.float32)}))
        with pytest.raises(UserError, match=r"a tensor is called '(\\x1b|aaa)"):
            open_published(npz(**{name: np.zeros(3, np.float32)}))


def test_an_archive_that_says_things_twice_or_in_code_is_refused(npz):
    file = npz()
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("head/bias.npy", header_of((5,)) + bytes(20))
    with pytest.raises(UserError, match="holds head/bias twice"):
        open_published(file)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("head/bias.npy", header_of((5,)) + bytes(20))
    with pytest.raises(UserError, match="encrypted or compressed in an unknown way"):
        open_published(file)


def test_an_optimiser_beside_the_model_is_left_out(npz):
    arrays = big_vision_arrays("original", "cls")
    state = {"opt/state/step": np.int64(7), **{f"opt/target/{k}": v for k, v in arrays.items()}}
    found = open_published(npz(**dict.fromkeys(arrays), **state)).read()
    np.testing.assert_array_equal(found["classifier"]["kernel"], arrays["head/kernel"])


def test_a_zip_bomb_is_refused_before_it_is_decompressed(tmp_path):
    """Half a gigabyte of zeros in half a megabyte."""
    file, zeros = tmp_path / "bomb.npz", bytes(2**20)
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("embedding/kernel.npy", "w") as member,
    ):
        member.write(header_of((2**27,)))
        for _ in range(2**9):
            member.write(zeros)
    assert file.stat().st_size < 2**20
    program = f"""
import resource
from pathlib import Path
from distill.errors import UserError
from distill.tensor_files import open_file
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    open_file(Path({str(file)!r}))
except UserError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    message, grown = done.stdout.splitlines()
    assert "no weights compress that well, so it is not read" in message
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(grown) * unit < 64 * 2**20


def test_a_path_without_weights_is_refused(tmp_path, timm):
    with pytest.raises(UserError, match="do not exist"):
        open_published(tmp_path / "nowhere.npz")
    with pytest.raises(UserError, match=r"should hold one .* but has none"):
        open_published(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match="no file of weights that is known"):
        open_published(tmp_path / "notes.txt")
    timm()
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        open_published(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    index = tmp_path / "model.safetensors.index.json"
    for name in ("../b.safetensors", "..", "", "notes.txt", "absent.safetensors"):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(UserError, match=r"which is no \.safetensors file beside it"):
            open_published(tmp_path)
    for damaged in ({}, {"weight_map": {}}, {"weight_map": {"a": 3}}, []):
        index.write_text(json.dumps(damaged))
        with pytest.raises(UserError, match="it has no weight_map of names to files"):
            open_published(tmp_path)


def test_a_path_that_is_no_weights_is_refused(tmp_path):
    for path, message in (
        (tmp_path / ("a" * 5000), "cannot be read"),
        (Path("/dev/zero"), "no file and no directory"),
    ):
        with pytest.raises(UserError, match=message):
            open_published(path)
    (tmp_path / "loop.safetensors").symlink_to(tmp_path)
    (tmp_path / "endless.npz").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="but has none"):
        open_published(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match=r"pytorch_model\.bin is a pickle"):
        open_published(tmp_path)
    (tmp_path / "config.json").mkdir()
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        Settings.beside(tmp_path, "config.json")


def test_a_model_of_another_family_is_refused(npz, timm):
    with pytest.raises(UserError, match="of the family big_vision, not dinov2"):
        open_published(npz(), family="dinov2")
    with pytest.raises(UserError, match="says how many heads its model has; leave heads out"):
        open_published(npz(), heads=3)
    assert open_published(timm(), family="timm", heads=4).family == "timm"


def test_heads_that_nothing_says_are_asked_for(timm):
    with pytest.raises(UserError, match="how many heads a model of width 32 has; give heads"):
        open_published(timm())
    assert open_published(timm(), heads=4).network.config.heads == 4


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(npz, bad, dtype):
    bias = np.zeros(5, dtype)
    bias[3] = bad
    model = open_published(npz(**{"head/bias": bias}))
    with pytest.raises(
        UserError, match=r"vit.npz: head/bias has 1 of 5 values that are not finite"
    ):
        model.read()


def test_numbers_too_large_for_what_they_are_computed_in_are_not_finite(npz):
    model = open_published(npz(**{"head/bias": np.full(5, 1e300)}))
    with pytest.raises(UserError, match="head/bias has 5 of 5 values that are not finite"):
        model.read()


def test_what_is_missing_is_named_with_what_is_there(npz, timm):
    with pytest.raises(UserError) as error:
        open_published(timm(**{"norm.weight": None}), heads=4)
    assert "norm.weight is missing" in str(error.value)
    assert "it has 19 tensors, such as blocks.0.norm" in str(error.value)
    with pytest.raises(
        UserError, match=r"is missing: it has 19 tensors, such as patch_embed\.proj"
    ):
        open_published(timm(**{"patch_embed.proj.weight": None}), heads=4)
    with pytest.raises(UserError, match=r"it has 1 tensors, such as weight"):
        open_published(timm(**dict.fromkeys(timm_arrays()), weight=np.zeros(1, np.float32)))


def test_a_repositorys_name_says_how_to_download_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = "hf download facebook/dinov2-base --local-dir weights/dinov2-base"
    for path in ("facebook/dinov2-base", tmp_path / "facebook/dinov2-base"):
        with pytest.raises(UserError, match=wanted):
            open_published(Path(path))
    with pytest.raises(UserError, match="hf download timm/vit_base --local-dir"):
        open_published(Path("hf-hub:timm/vit_base"))
    (tmp_path / "weights").mkdir()
    for path in ("weights/dinov2-base", "a/b/c", "nowhere", "/a/b", "a/b.npz"):
        with pytest.raises(UserError, match=r"do not exist$"):
            open_published(Path(path))


def test_versions_in_a_directory_are_named(tmp_path, timm):
    (tmp_path / "export" / "1").mkdir(parents=True)
    timm().rename(tmp_path / "export" / "1" / "model.safetensors")
    with pytest.raises(UserError, match=r"export should hold one .* has none; 1 in it may be"):
        open_published(tmp_path / "export")
