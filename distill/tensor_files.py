"""Files of tensors, read without running what is in them: .safetensors and .npz.

What a file declares is checked against its size before anything is decompressed or allocated, and
tensors are read one at a time.
"""

import math
import re
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from distill.errors import UserError
from distill.json_files import read_json

Shape = tuple[int, ...]


class Tensor(NamedTuple):
    """What a file declares of one of its arrays."""

    dtype: str
    shape: Shape

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


SUFFIXES = (".safetensors", ".npz")
"""Of files of tensors."""

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".tar")
_ADVICE = (
    "is a pickle, which can run any code when it is opened, so it is not read. Convert it where "
    "you trust it: safetensors.torch.save_file(torch.load(FILE, weights_only=True), "
    '"model.safetensors")'
)
# Deflate reaches 1000; no trained weights reach 2.
_MOST_COMPRESSED = 100
_LONGEST_NAME = 200
_MOST_NAMED = 5
# The header of a plain array as NumPy writes it, which is a Python expression: not evaluated here.
_NPY_HEADER = re.compile(
    r"\{'descr': '([<>|=]?[a-zA-Z]\d*)', 'fortran_order': (True|False), 'shape': "
    r"\(((?:\d{1,19},? ?)*)\), ?\}\s*"
)


class TensorFile(Protocol):
    """Tensors by name."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    """What the file says of itself, if it can."""

    def read(self, name: str) -> np.ndarray:
        """The tensor as it is stored, in a floating-point dtype."""
        ...


def open_file(path: Path) -> TensorFile:
    """The tensors of a .safetensors or .npz file, or of a directory that holds one.

    A directory may hold `model.safetensors.index.json` and the files it names, which are read where
    there is no `model.safetensors`.

    Raises:
      UserError: if there is none, or it is damaged, of another format, or holds Python objects.
    """
    with _blame(path):
        if path.is_dir():
            return _open_directory(path)
        if not path.exists():
            raise UserError(f"weights {path} do not exist")
        if not path.is_file():
            raise UserError(f"weights {path} are no file and no directory")
    return _open_one(path)


def refuse_pickle(path: Path) -> None:
    """Raises a UserError that says how to convert a file, if it is named as pickles are."""
    if path.suffix in _PICKLES:
        raise UserError(f"{path} {_ADVICE}")


def _open_one(path: Path) -> TensorFile:
    if path.suffix == ".safetensors":
        return _Safetensors(path, (path,))
    if path.suffix == ".npz":
        return _Npz(path)
    refuse_pickle(path)
    raise UserError(f"{path} is no file of weights that is known; expected .safetensors or .npz")


def _open_directory(path: Path) -> TensorFile:
    alone, index = path / "model.safetensors", path / "model.safetensors.index.json"
    # The index may be left over from when the weights were in parts; transformers does not read it.
    if index.is_file() and not alone.is_file():
        content = read_json(index)
        parts = content.get("weight_map") if isinstance(content, dict) else None
        values = list(parts.values()) if isinstance(parts, dict) else []
        if not values or not all(isinstance(value, str) for value in values):
            raise UserError(f"{index} is damaged: it has no weight_map of names to files")
        files = [path / name for name in sorted(set(values))]
        for file, name in zip(files, sorted(set(values)), strict=True):
            if file.name != name or file.suffix != ".safetensors" or not file.is_file():
                raise UserError(f"{index} names {name!r}, which is no .safetensors file beside it")
        return _Safetensors(path, tuple(files))
    files = sorted(file for file in path.iterdir() if file.is_file())
    known = [file for file in files if file.suffix in SUFFIXES]
    if alone in known:
        known = [alone]
    if len(known) == 1:
        return _open_one(known[0])
    if not known:
        for file in files:
            refuse_pickle(file)
    if (path / "export.json").is_file() and not known:
        raise UserError(
            f"{path} is an export whose format holds no weights to read back; give the workdir of "
            "the run it was made of, or export that with --format=hf"
        )
    found = ", ".join(file.name for file in known) or "none"
    # As versions of an export lie in one.
    below = sorted({one.parent.name for one in path.glob("*/*") if one.suffix in SUFFIXES})
    raise UserError(
        f"{path} should hold one .safetensors or .npz file, but has {found}"
        + (f"; {', '.join(below[:_MOST_NAMED])} in it may be meant" if below else "")
    )


class _Safetensors:
    """One or several .safetensors files, which map names to places and hold nothing else."""

    def __init__(self, path: Path, files: tuple[Path, ...]):
        self.path = path
        self.tensors: dict[str, Tensor] = {}
        self.metadata: dict[str, str] = {}
        self._file_of: dict[str, Path] = {}
        for file in files:
            with _blame(file):
                # safe_open says of any file that it may not read that it does not exist.
                file.open("rb").close()
            with _blame(file), safe_open(file, "numpy") as content:
                self.metadata |= content.metadata() or {}
                for name in content.keys():  # noqa: SIM118 (not a mapping)
                    if name in self.tensors:
                        raise UserError(f"{path} holds {name} twice")
                    part = content.get_slice(name)
                    self.tensors[name] = Tensor(part.get_dtype(), tuple(part.get_shape()))
                    self._file_of[name] = file
        _check_names(path, self.tensors)

    def read(self, name: str) -> np.ndarray:
        """The tensor as it is stored."""
        file, stored = self._file_of[name], self.tensors[name].dtype
        if stored not in ("F64", "F32", "F16", "BF16"):
            raise UserError(f"{file}: {name} is {stored}; expected floating-point numbers")
        with _blame(file), safe_open(file, "numpy") as content:
            return content.get_tensor(name)


class _Member(NamedTuple):
    """An array in an .npz file."""

    info: zipfile.ZipInfo
    header: int
    """Bytes before the numbers."""
    dtype: np.dtype
    shape: Shape
    order: Literal["C", "F"]


class _Npz:
    """An .npz file, a zip archive of .npy files."""

    def __init__(self, path: Path):
        self.path = path
        self.metadata: dict[str, str] = {}
        self._members: dict[str, _Member] = {}
        with _blame(path), zipfile.ZipFile(path) as archive:
            declared = sum(info.file_size for info in archive.infolist())
            if declared > _MOST_COMPRESSED * path.stat().st_size:
                raise UserError(
                    f"{path} has {path.stat().st_size:,} bytes but declares {declared:,}; no "
                    "weights compress that well, so it is not read"
                )
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if name in self._members:
                    raise UserError(f"{path} holds {name} twice")
                self._members[name] = _read_member(path, archive, info)
        self.tensors = {
            name: Tensor(str(member.dtype), member.shape) for name, member in self._members.items()
        }
        _check_names(path, self.tensors)

    def read(self, name: str) -> np.ndarray:
        """The tensor as it is stored."""
        member = self._members[name]
        with (
            _blame(self.path),
            zipfile.ZipFile(self.path) as archive,
            archive.open(member.info) as file,
        ):
            file.read(member.header)
            numbers = file.read()
        array = np.frombuffer(numbers, member.dtype).reshape(member.shape, order=member.order)
        if array.dtype == np.dtype("V2"):
            # NumPy has no name for bfloat16 and saves its bytes.
            array = array.view(jnp.dtype("bfloat16"))
        elif array.dtype.kind != "f":
            raise UserError(
                f"{self.path}: {name} is {array.dtype}; expected floating-point numbers"
            )
        return array


def _read_member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    """Reads what a member's header declares, and checks that the archive says the same."""
    if not info.filename.endswith(".npy"):
        raise UserError(f"{path} holds {info.filename}, which is no array")
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError(f"{path}: {info.filename} is encrypted or compressed in an unknown way")
    with archive.open(info) as file:
        start = file.read(10)
        # The only version with a header of limited size, and that of all plain arrays.
        if start[:8] != b"\x93NUMPY\x01\x00" or len(start) < 10:
            raise UserError(
                f"{path} is damaged: {info.filename} is of another .npy format than 1.0"
            )
        length = int.from_bytes(start[8:], "little")
        found = _NPY_HEADER.fullmatch(file.read(length).decode("latin1"))
    try:
        if found is None:
            raise TypeError("a header that no plain array has")
        descr, fortran, sides = found.groups()
        dtype = np.dtype(descr)
    except TypeError as error:
        raise UserError(f"{path} is damaged: {info.filename} is no array of numbers") from error
    if dtype.hasobject:
        raise UserError(
            f"{path}: {info.filename} holds pickled Python objects, which can run any code when "
            "they are read, so they are not; save plain arrays"
        )
    shape, size = tuple(map(int, re.findall(r"\d+", sides))), info.file_size - len(start) - length
    if not dtype.itemsize or math.prod(shape) * dtype.itemsize != size:
        raise UserError(
            f"{path} is damaged: {info.filename} declares {dtype}{list(shape)}, but has "
            f"{size:,} bytes"
        )
    return _Member(info, len(start) + length, dtype, shape, "F" if fortran == "True" else "C")


def _check_names(path: Path, names: Collection[str]) -> None:
    """Checks that names can be shown."""
    for name in names:
        if len(name) > _LONGEST_NAME or not name.isprintable():
            raise UserError(f"{path} is damaged: a tensor is called {name[:_LONGEST_NAME]!r}")


@contextmanager
def _blame(path: Path) -> Iterator[None]:
    """Reports what the libraries raise for damaged files as the user's."""
    try:
        yield
    except (SafetensorError, zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        said = "".join(c if c.isprintable() else " " for c in str(error))[:_LONGEST_NAME]
        raise UserError(f"{path} is damaged or no {path.suffix} file: {said}") from error
    except (OSError, NotImplementedError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
