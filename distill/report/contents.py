"""What files and directories hold, read without running or unpickling anything of theirs."""

import io
import json
import math
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from distill.errors import UserError
from distill.report.text import text_table

# A header of safetensors is refused beyond this; its own library does the same.
_LONGEST_HEADER = 100_000_000

# NumPy takes headers of up to 10,000 bytes.
_LONGEST_ARRAY_HEADER = 2**14


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
    """The arrays of a .safetensors file and its metadata; reads its header alone.

    Raises:
      UserError: if it is damaged.
    """
    length = file.stat().st_size
    with file.open("rb") as content:
        declared = int.from_bytes(content.read(8), "little")
        if length < 8 or not 2 <= declared <= min(length - 8, _LONGEST_HEADER):
            raise UserError(
                f"{file} is no safetensors file, or is truncated: a header of {declared:,} bytes "
                f"is declared, and the file has {length:,}"
            )
        header = content.read(declared)
    try:
        described = json.loads(header)
        metadata = described.pop("__metadata__", {})
        tensors = {
            name: Tensor(one["dtype"], tuple(map(int, one["shape"])))
            for name, one in described.items()
        }
        ends = [int(one["data_offsets"][1]) for one in described.values()]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{file} has a damaged safetensors header: {error!r}") from error
    expected = 8 + declared + max(ends, default=0)
    if length != expected:
        raise UserError(f"{file} has {length:,} bytes, but its header tells of {expected:,}")
    return tensors, metadata


def read_npz(file: Path) -> Tensors:
    """The arrays of a .npz file, of which only the headers are read.

    Raises:
      UserError: if it is damaged.
    """
    tensors = {}
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                with archive.open(member) as whole:
                    # However much there is to unpack, and whatever length the header claims.
                    content = io.BytesIO(whole.read(_LONGEST_ARRAY_HEADER))
                version = np.lib.format.read_magic(content)
                read = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }[version]
                shape, _, dtype = read(content)
                kind = "pickled objects" if dtype.hasobject else str(dtype)
                tensors[member.filename.removesuffix(".npy")] = Tensor(kind, shape)
    # What damaged archives raise besides their own error, such as for unknown compression.
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, NotImplementedError, OSError) as e:
        raise UserError(f"{file} is no .npz file of arrays, or is damaged: {e}") from e
    return tensors


def tensor_table(tensors: Mapping[str, Tensor]) -> str:
    """Arrays by name; those whose names differ in a number alone, and that are alike, in a row."""
    rows: dict[tuple[str, Tensor], int] = {}
    for name, tensor in tensors.items():
        key = (re.sub(r"(?<![A-Za-z])\d+(?![A-Za-z])", "*", name), tensor)
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
    return "\n".join(f"{name:<{width}}  {value}" for name, value in shown.items())


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
