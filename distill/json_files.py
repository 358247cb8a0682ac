"""JSON files that are whole, whatever happens while they are written."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.errors import UserError


def read_json(file: Path) -> Any:
    """Reads a JSON file.

    Raises:
      UserError: if it cannot be read, is not JSON, or an object in it has a key twice.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    return parse_json(content, str(file))


def parse_json(content: bytes, file: str) -> Any:
    """What the content of a JSON file says.

    Args:
      content: in UTF-8.
      file: it is of, for errors.

    Raises:
      UserError: if it is not JSON, or an object in it has a key twice.
    """
    try:
        # Editors on Windows begin files with a mark.
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=each_once)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is damaged: {error}") from error


def each_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The object of keys and values, for `object_pairs_hook`; by itself, JSON takes the last.

    Raises:
      ValueError: if a key is there twice.
    """
    twice = [key for key, times in Counter(key for key, _ in pairs).items() if times > 1]
    if twice:
        raise ValueError(f"it says {twice[0]!r} more than once")
    return dict(pairs)


def write_json(file: Path, content: Any, *, indent: int | None = 2) -> None:
    """Writes a JSON file so that a reader finds the old content or the new, never half.

    Args:
      file: to write.
      content: as JSON can hold it.
      indent: of what is inside; None writes one line, as suits long lists of numbers.
    """
    temporary = file.with_name(f".{file.name}.tmp")
    with temporary.open("w", encoding="utf-8") as out:
        json.dump(content, out, indent=indent)
        out.write("\n")
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(file)
