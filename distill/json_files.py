"""JSON files that are whole, whatever happens while they are written."""

import contextlib
import io
import json
import os
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.errors import Damaged, UserError
from distill.unwritten import naming, whole_or_not

CHECKSUM = "checksum"
"""Key of an object that was written with one; whoever reads the file does not see it."""


def read_json(file: Path) -> Any:
    """Reads a JSON file.

    Raises:
      UserError: if it cannot be read.
      Damaged: if it is not JSON, an object in it has a key twice, its checksum is another one, or
        it is a directory.
    """
    try:
        content = file.read_bytes()
    except IsADirectoryError as error:
        raise _directory(file) from error
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    return parse_json(content, str(file))


def parse_json(content: bytes, file: str) -> Any:
    """What the content of a JSON file says.

    Args:
      content: in UTF-8.
      file: it is of, for errors.

    Raises:
      Damaged: if it is not JSON, an object in it has a key twice, or its checksum is another one.
    """
    try:
        # Editors on Windows begin files with a mark.
        found = json.loads(content.decode("utf-8-sig"), object_pairs_hook=each_once)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{file} is damaged: {error}") from error
    if not isinstance(found, dict) or CHECKSUM not in found:
        return found
    said = found.pop(CHECKSUM)
    if said != _checksum(found):
        raise Damaged(
            f"{file} is damaged: it does not say what was written, as its {CHECKSUM} tells. If it "
            f"was changed on purpose, take the line of its {CHECKSUM} out"
        )
    return found


def each_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The object of keys and values, for `object_pairs_hook`; by itself, JSON takes the last.

    Raises:
      ValueError: if a key is there twice.
    """
    twice = [key for key, times in Counter(key for key, _ in pairs).items() if times > 1]
    if twice:
        raise ValueError(f"it says {twice[0]!r} more than once")
    return dict(pairs)


def write_json(file: Path, content: Any, *, checked: bool = False, indent: int | None = 2) -> None:
    """Writes a JSON file so that a reader finds the old content or the new, never half.

    Args:
      file: to write.
      content: as JSON can hold it.
      checked: whether an object is written with a checksum, by which `read_json` knows damage.
      indent: of what is inside; None writes one line, as suits long lists of numbers.
    """
    if checked:
        content = with_checksum(content)
    replace_file(file, (json.dumps(content, indent=indent) + "\n").encode())


def with_checksum(content: dict[str, Any]) -> dict[str, Any]:
    """The object with a checksum of it, which `read_json` compares and takes out."""
    return {CHECKSUM: _checksum(content), **content}


def replace_file(file: Path, content: bytes) -> None:
    """Writes a file so that a reader finds the old content or the new, never half.

    Raises:
      OSError: naming the file, if it cannot be written; then nothing of it is left.
    """
    temporary = file.with_name(f".{file.name}.tmp")
    with whole_or_not(temporary, file):
        with temporary.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(file)


def _checksum(content: Any) -> str:
    # Numbers and texts come back from JSON as they were written.
    text = json.dumps(content, sort_keys=True)
    return f"crc32:{zlib.crc32(text.encode()):08x}"


def read_json_lines(file: Path) -> list[dict[str, Any]]:
    """The objects of a file with one a line; a last line cut off by a kill is left out.

    Raises:
      UserError: if it cannot be read.
      Damaged: naming the line, if another one holds no object; if it is a directory.
    """
    try:
        lines = file.read_bytes().split(b"\n")
    except IsADirectoryError as error:
        raise _directory(file) from error
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    found = []
    for number, line in enumerate(lines, 1):
        try:
            one = json.loads(line.decode())
            if not isinstance(one, dict):
                raise ValueError(f"it says {line[:40]!r}, and is no object")
        except (ValueError, RecursionError) as error:
            # What ends without an end of line was not written whole.
            if number == len(lines):
                break
            raise damaged_line(file, number, str(error)) from error
        found.append(one)
    return found


def _directory(file: Path) -> Damaged:
    return Damaged(f"{file} is damaged: it is a directory, and a file is expected")


def append_json_line(file: Path, content: dict[str, Any]) -> None:
    """Adds an object to a file with one a line; what a kill left of a last line is taken away.

    Raises:
      OSError: naming the file, if it cannot be written; then it is as it was.
    """
    line = (json.dumps(content) + "\n").encode()
    with naming(file):
        file.touch()
        with file.open("r+b", buffering=0) as out:
            there = out.read()
            end = there.rfind(b"\n") + 1
            if end < len(there):
                try:
                    json.loads(there[end:].decode())
                    line, end = b"\n" + line, len(there)
                except ValueError:
                    out.truncate(end)
            append(out, line, end)


def append(file: io.RawIOBase | io.FileIO, data: bytes, end: int) -> None:
    """Writes to the end of an unbuffered file: all of it, or nothing.

    Args:
      file: open for writing.
      data: to write.
      end: where it ends now.

    Raises:
      OSError: if it cannot be written; then it ends where it did.
    """
    file.seek(end)
    left = memoryview(data)
    try:
        while left:
            left = left[file.write(left) or 0 :]
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(end)
        raise


def damaged_line(file: Path, number: int, why: str) -> Damaged:
    """The error of a damaged line, which says how to go on without it.

    Args:
      file: with one object a line.
      number: of the line, from 1.
      why: it is no object that the file may have.
    """
    return Damaged(
        f"line {number} of {file} is damaged: {why}\n"
        f"Put back a copy of the file, or go on without this line: sed -i {number}d {file}"
    )
