"""Tables of what files and directories hold."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.tensor_files import Tensor
from distill.terminal import text_table

_LONGEST_TEXT = 500


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
