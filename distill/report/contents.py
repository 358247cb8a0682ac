"""What files and directories hold, read without running or unpickling anything of theirs."""

import io
import lzma
import math
import re
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from distill.errors import UserError
from distill.report.text import text_table

_LONGEST_TEXT = 500

# NumPy takes headers of up to 10,000 bytes.
_LONGEST_ARRAY_HEADER = 2**14
_READ_ARRAY_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# What damaged arrays and archives raise: RuntimeError for encryption and unknown compression, and
# the tokenizer's for a header that NumPy takes to be Python 2's.
_DAMAGED = (
    EOFError,
    OSError,
    RuntimeError,
    SyntaxError,
    ValueError,
    lzma.LZMAError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


class Tensor(NamedTuple):
    """One array of a file."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


Tensors = dict[str, Tensor]


def read_safetensors(file: Path) -> tuple[Tensors, dict[str, str]]:
    """The arrays of a .safetensors file and its metadata; its library reads the header alone.

    Raises:
      UserError: if it is damaged.
    """
    try:
        with safe_open(file, "numpy") as content:
            parts = {name: content.get_slice(name) for name in content.keys()}  # noqa: SIM118
            tensors = {
                name: Tensor(part.get_dtype(), tuple(part.get_shape()))
                for name, part in parts.items()
            }
            return tensors, content.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{file} is damaged or no .safetensors file: {printable(str(error))}"
        ) from error


def read_npz(file: Path) -> Tensors:
    """The arrays of a .npz file, of which only the headers are read.

    Raises:
      UserError: if it is damaged.
    """
    tensors = {}
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                with archive.open(member) as content:
                    array = _read_array(content, member.file_size)
                tensors[member.filename.removesuffix(".npy")] = array
    except _DAMAGED as error:
        raise UserError(
            f"{file} is no .npz file of arrays, or is damaged: {printable(str(error))}"
        ) from error
    return tensors


def read_npy(file: Path) -> Tensors:
    """The array of a .npy file, without a name; only its header is read.

    Raises:
      UserError: if it is damaged.
    """
    try:
        with file.open("rb") as content:
            return {"": _read_array(content, file.stat().st_size)}
    except _DAMAGED as error:
        raise UserError(
            f"{file} is no .npy file, or is damaged: {printable(str(error))}"
        ) from error


def _read_array(content: BinaryIO, size: int) -> Tensor:
    """Reads the header of an array in NumPy's format, of `size` bytes with it.

    Raises:
      ValueError: if it is none, or declares what the bytes cannot hold.
    """
    # However much there is to unpack, and whatever length the header claims.
    start = io.BytesIO(content.read(_LONGEST_ARRAY_HEADER))
    version = np.lib.format.read_magic(start)
    if version not in _READ_ARRAY_HEADER:
        raise ValueError(f"version {version} of the format is not known")
    shape, _, dtype = _READ_ARRAY_HEADER[version](start)
    if dtype.hasobject:
        return Tensor("pickled objects", shape)
    if start.tell() + math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"{dtype} {shape_text(shape)} is declared, in {size:,} bytes")
    return Tensor(str(dtype), shape)


def tensor_table(tensors: Mapping[str, Tensor]) -> str:
    """Arrays by name; those whose names differ in a number alone, and that are alike, in a row."""
    rows: dict[tuple[str, Tensor], int] = {}
    for name, tensor in tensors.items():
        key = (re.sub(r"(?<![A-Za-z])\d+(?![A-Za-z])", "*", printable(name)), tensor)
        rows[key] = rows.get(key, 0) + 1
    shown = [
        (name, str(count) if count > 1 else "", tensor.dtype, shape_text(tensor.shape))
        for (name, tensor), count in rows.items()
    ]
    total = sum(tensor.size for tensor in tensors.values())
    table = text_table(("tensor", "times", "dtype", "shape"), shown)
    return f"{table}\n{len(tensors):,} tensors, {total:,} values"


def facts(values: Mapping[str, Any]) -> str:
    """A line for each value that there is."""
    shown = {name: value for name, value in values.items() if value not in (None, "", [], {}, ())}
    width = max(map(len, shown), default=0)
    lines = (f"{name:<{width}}  {value}" for name, value in shown.items())
    return "\n".join(map(printable, lines))


def printable(text: str) -> str:
    """Without what could steer the terminal, such as a file can hold, or fill it."""
    kept = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return kept if len(kept) <= _LONGEST_TEXT else f"{kept[:_LONGEST_TEXT]}…"


def shape_text(shape: Iterable[int | None]) -> str:
    """[batch, 8, 8]."""
    return "[" + ", ".join("batch" if side is None else str(side) for side in shape) + "]"


def signature_table(signature: Mapping[str, Any]) -> str:
    """Inputs and outputs of a function, as export.json has them."""
    rows = [
        (f"{kind[:-1]} {name}", dtype, shape_text(shape))
        for kind in ("inputs", "outputs")
        for name, (dtype, shape) in signature[kind].items()
    ]
    return text_table(("signature", "dtype", "shape"), rows)


def sections(*parts: str) -> str:
    """Parts with an empty line between those that are not empty."""
    return "\n\n".join(part for part in parts if part)


def file_table(directory: Path, files: Sequence[Path]) -> str:
    """Files with their sizes."""
    rows = [(str(file.relative_to(directory)), f"{file.stat().st_size:,}") for file in files]
    return text_table(("file", "bytes"), rows)
