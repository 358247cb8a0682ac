"""Files of tensors, read without running what is in them: .safetensors and .npz.

What a file declares is checked against its size before anything is decompressed or allocated, and
tensors are read one at a time.
"""

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from distill.errors import UserError
from distill.json_files import read_json

Shape = tuple[int, ...]

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".tar")
# Deflate reaches 1000; no trained weights reach 2.
_MOST_COMPRESSED = 100
# In config.json: no width, depth or image is larger.
_LARGEST = 2**20


class TensorFile(Protocol):
    """Tensors by name."""

    path: Path
    shapes: dict[str, Shape]

    def read(self, name: str) -> np.ndarray:
        """The tensor as it is stored, in a floating-point dtype."""


def open_file(path: Path) -> TensorFile:
    """The tensors of a .safetensors or .npz file, or of a directory that holds one.

    A directory may hold `model.safetensors.index.json` and the files it names.

    Raises:
      UserError: if there is none, or it is damaged, of another format, or holds Python objects.
    """
    if not path.exists():
        raise UserError(f"weights {path} do not exist")
    if path.is_dir():
        return _open_directory(path)
    if path.suffix == ".safetensors":
        return _Safetensors(path, (path,))
    if path.suffix == ".npz":
        return _Npz(path)
    if path.suffix in _PICKLES:
        raise UserError(
            f"{path} is a pickle, which can run any code when it is opened, so it is not read. "
            "Convert it where you trust it: safetensors.torch.save_file(torch.load(FILE, "
            'weights_only=True), "model.safetensors")'
        )
    raise UserError(f"{path} is no file of weights that is known; expected .safetensors or .npz")


def shape_of(file: TensorFile, name: str, rank: int) -> Shape:
    """The shape of a tensor that says how large a model is.

    Raises:
      UserError: if it is missing or has another number of axes.
    """
    found = file.shapes.get(name)
    if found is None or len(found) != rank:
        raise UserError(
            f"{file.path}: {name} is {'missing' if found is None else list(found)}; expected "
            f"{rank} axes"
        )
    return found


def _open_directory(path: Path) -> TensorFile:
    index = path / "model.safetensors.index.json"
    if index.is_file():
        content = read_json(index)
        parts = content.get("weight_map") if isinstance(content, dict) else None
        if not isinstance(parts, dict) or not all(isinstance(p, str) for p in parts.values()):
            raise UserError(f"{index} is damaged: it has no weight_map of names to files")
        names = sorted(set(parts.values()))
        if outside := [name for name in names if Path(name).name != name]:
            raise UserError(f"{index} names {outside[0]!r}, which is not a file beside it")
        return _Safetensors(path, tuple(path / name for name in names))
    files = sorted([*path.glob("*.safetensors"), *path.glob("*.npz")])
    preferred = path / "model.safetensors"
    if preferred in files:
        files = [preferred]
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise UserError(f"{path} should hold one .safetensors or .npz file, but has {found}")
    return open_file(files[0])


class _Safetensors:
    """One or several .safetensors files, which map names to places and hold nothing else."""

    def __init__(self, path: Path, files: tuple[Path, ...]):
        self.path = path
        self.shapes: dict[str, Shape] = {}
        self._file_of: dict[str, Path] = {}
        for file in files:
            with _blame(file), safe_open(file, "numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a mapping)
                    if name in self.shapes:
                        raise UserError(f"{path} holds {name} twice")
                    self.shapes[name] = tuple(tensors.get_slice(name).get_shape())
                    self._file_of[name] = file

    def read(self, name: str) -> np.ndarray:
        """The tensor as it is stored."""
        file = self._file_of[name]
        with _blame(file), safe_open(file, "numpy") as tensors:
            stored = tensors.get_slice(name).get_dtype()
            if stored not in ("F64", "F32", "F16", "BF16"):
                raise UserError(f"{file}: {name} is {stored}; expected floating-point numbers")
            return tensors.get_tensor(name)


class _Member(NamedTuple):
    """An array in an .npz file."""

    info: zipfile.ZipInfo
    shape: Shape
    dtype: np.dtype


class _Npz:
    """An .npz file, a zip archive of .npy files."""

    def __init__(self, path: Path):
        self.path = path
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
        self.shapes = {name: member.shape for name, member in self._members.items()}

    def read(self, name: str) -> np.ndarray:
        """The tensor as it is stored."""
        member = self._members[name]
        with (
            _blame(self.path),
            zipfile.ZipFile(self.path) as archive,
            archive.open(member.info) as file,
        ):
            array = np.lib.format.read_array(file, allow_pickle=False)
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
        version = np.lib.format.read_magic(file)
        # The only version with a header of limited size, and that of all plain arrays.
        if version != (1, 0):
            raise UserError(f"{path}: {info.filename} is of another .npy format, {version}")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        header = file.tell()
    if dtype.hasobject:
        raise UserError(
            f"{path}: {info.filename} holds pickled Python objects, which can run any code when "
            "they are read, so they are not; save plain arrays"
        )
    if header + math.prod(shape) * dtype.itemsize != info.file_size:
        raise UserError(
            f"{path} is damaged: {info.filename} declares {dtype}{list(shape)}, but has "
            f"{info.file_size - header:,} bytes"
        )
    return _Member(info, shape, dtype)


@contextmanager
def _blame(path: Path) -> Iterator[None]:
    """Reports what the libraries raise for damaged files as the user's."""
    try:
        yield
    except (SafetensorError, zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise UserError(f"{path} is damaged or no {path.suffix} file: {error}") from error
    except (OSError, NotImplementedError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


class Settings:
    """A JSON file beside the weights, such as config.json, whose values are checked when read.

    `about` is for messages. A missing file has no values.
    """

    def __init__(self, content: dict[str, Any], about: str):
        self.content = content
        self.about = about

    @classmethod
    def beside(cls, weights: Path, name: str) -> "Settings":
        """Reads the file `name` of the weights' directory.

        Raises:
          UserError: if it is damaged.
        """
        file = (weights if weights.is_dir() else weights.parent) / name
        content = read_json(file) if file.is_file() else {}
        if not isinstance(content, dict):
            raise UserError(f"{file} is damaged: expected keys and values")
        return cls(content, str(file))

    def __contains__(self, key: str) -> bool:
        return self.content.get(key) is not None

    def section(self, key: str) -> "Settings":
        """The values below `key`; none if it is not there."""
        return Settings(self._get(key, dict, {}), f"{self.about}, {key}")

    def integer(self, key: str, default: int) -> int:
        """A whole number that a model can have."""
        value = self._get(key, int, default)
        if not 0 <= value <= _LARGEST:
            raise UserError(f"{self.about}: {key} is {value}, which no model has")
        return value

    def number(self, key: str, default: float) -> float:
        """A number."""
        return float(self._get(key, (int, float), default))

    def boolean(self, key: str, default: bool) -> bool:
        """True or false."""
        return self._get(key, bool, default)

    def text(self, key: str, default: str = "") -> str:
        """A text."""
        return self._get(key, str, default)

    def numbers(self, key: str) -> tuple[float, ...] | None:
        """Several numbers, or None."""
        values = self._get(key, list, None)
        if values is None:
            return None
        if not values or not all(isinstance(value, int | float) for value in values):
            raise UserError(f"{self.about}: {key} is {values!r}; expected numbers")
        return tuple(map(float, values))

    def size(self, key: str, default: int | tuple[int, int]) -> int | tuple[int, int]:
        """A side in pixels, or height and width."""
        value = self.content.get(key, default)
        if isinstance(value, dict):
            value = [value.get("height"), value.get("width")]
        pair = [value, value] if isinstance(value, int) else value
        valid = isinstance(pair, list | tuple) and len(pair) == 2
        if not valid or not all(type(v) is int and 0 < v <= _LARGEST for v in pair):
            raise UserError(f"{self.about}: {key} is {value!r}; expected a side, or two, in pixels")
        return pair[0] if pair[0] == pair[1] else (pair[0], pair[1])

    def _get(self, key: str, kind: type | tuple[type, ...], default: Any) -> Any:
        value = self.content.get(key)
        if value is None:
            return default
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise UserError(f"{self.about}: {key} is {value!r}, which is not expected there")
        return value
