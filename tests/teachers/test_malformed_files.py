"""What is refused of a file that is damaged, or made to do harm, and at what cost."""

import io
import json
import pickle
import re
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from published import Bomb

from distill.errors import UserError
from teachers.pretrained import open_published


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
