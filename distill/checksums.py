"""Checksums of a directory's files, by which damage shows.

`checksums.json` in the directory has the size and the CRC-32 of each file. Any flipped bit, and any
32 bits in a row, give another CRC-32; of other damage one in four thousand million does not.
"""

import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.json_files import read_json, write_json

FILE = "checksums.json"

_BLOCK = 2**22
_THREADS = 8

Checksum = list[Any]
"""A file's size in bytes, and its CRC-32 in hexadecimal."""


def checksum_of(file: Path) -> Checksum:
    """That of a file, which is read once.

    Raises:
      OSError: if it cannot be read.
    """
    size, crc = 0, 0
    with file.open("rb", buffering=0) as content:
        while block := content.read(_BLOCK):
            size, crc = size + len(block), zlib.crc32(block, crc)
    return [size, f"{crc:08x}"]


def checksums_of(directory: Path, names: Iterable[str]) -> dict[str, Checksum]:
    """Those of files, by their names in the directory."""
    names = sorted(names)
    with ThreadPoolExecutor(_THREADS) as threads:
        return dict(
            zip(names, threads.map(lambda n: checksum_of(directory / n), names), strict=True)
        )


def files_in(directory: Path) -> list[str]:
    """Names of the files below a directory, with `/`, but for those of checksums."""
    found = (
        (Path(folder) / name).relative_to(directory).as_posix()
        for folder, _, names in os.walk(directory)
        for name in names
    )
    return sorted(name for name in found if name != FILE)


def write_checksums(directory: Path, known: Mapping[str, Checksum]) -> None:
    """Writes the checksums of all files that are in a directory.

    Args:
      directory: with the files.
      known: checksums of some of them, by name, which are not computed again.
    """
    others = checksums_of(directory, set(files_in(directory)) - known.keys())
    write_json(directory / FILE, {"files": {**known, **others}}, checked=True)


def damage_in(
    directory: Path, share: tuple[int, int] = (0, 1), *, sizes_alone: bool = False
) -> list[str] | None:
    """What of a directory is not as it was when its checksums were written; None without those.

    Files that were added since are passed over.

    Args:
      directory: with its files.
      share: `(i, n)` looks at each n-th file only, from the i-th.
      sizes_alone: whether no file is read, so that it takes no time.
    """
    file = directory / FILE
    if not file.is_file():
        return None
    try:
        expected = read_json(file)["files"]
        names = sorted(expected)[share[0] :: share[1]]
        expected = {name: list(expected[name]) for name in names}
    except UserError as error:
        return [str(error)]
    except (KeyError, TypeError, AttributeError):
        return [f"{file} is damaged: it says nothing of files"]
    with ThreadPoolExecutor(_THREADS) as threads:
        found = threads.map(
            lambda name: _compare(directory / name, expected[name], sizes_alone), names
        )
        return [problem for problem in found if problem]


def _compare(file: Path, expected: Sequence[Any], size_alone: bool) -> str | None:
    try:
        size = file.stat().st_size
        if size != expected[0]:
            return f"{file} has {size:,} bytes, and was written with {expected[0]:,}"
        if size_alone:
            return None
        found = checksum_of(file)
    except FileNotFoundError:
        return f"{file} is gone"
    except OSError as error:
        return f"{file} cannot be read: {error.strerror}"
    if found != expected:
        return f"{file} has the CRC-32 {found[1]}, and was written with {expected[1]}"
    return None
