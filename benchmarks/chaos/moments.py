"""Moments at which files change, at which a process is killed."""

import builtins
import io
import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_CALLS = ("replace", "rename", "fsync", "unlink", "remove", "mkdir", "rmdir", "truncate")


def kind_of(call: str, path: str, root: Path) -> str:
    """A moment's name: the call, and what of a directory it changes, without what is numbered."""
    inside = Path(os.path.abspath(path))
    parts = inside.relative_to(root).parts if inside.is_relative_to(root) else ("elsewhere",)
    named = [part for part in parts if not any(c.isdigit() for c in part)]
    return f"{call} {'/'.join(named[:3])}"


def watch(root: Path, met: Callable[[str, bool], None]) -> None:
    """Has `met` called before and after each change that Python makes below a directory.

    Args:
      root: the directory; changes elsewhere are passed over.
      met: takes the moment's kind and whether it is past.
    """

    def watched(call: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def changed(path: Any, *others: Any, **more: Any) -> Any:
            kind = kind_of(call, _path(path), root)
            if kind.endswith("elsewhere"):
                return original(path, *others, **more)
            met(kind, False)
            found = original(path, *others, **more)
            met(kind, True)
            return found

        return changed

    for call in _CALLS:
        setattr(os, call, watched(call, getattr(os, call)))
    opened = io.open

    def open_watched(file: Any, mode: str = "r", *others: Any, **more: Any) -> Any:
        if not set(mode) & set("wax+") or isinstance(file, int):
            return opened(file, mode, *others, **more)
        kind = kind_of("open", _path(file), root)
        if kind.endswith("elsewhere"):
            return opened(file, mode, *others, **more)
        met(kind, False)
        found = opened(file, mode, *others, **more)
        met(kind, True)
        return found

    io.open = builtins.open = open_watched


def _path(path: Any) -> str:
    """Of a path, or of what is open."""
    if hasattr(path, "fileno"):
        path = path.fileno()
    if isinstance(path, int):
        try:
            return os.readlink(f"/proc/self/fd/{path}")
        except OSError:
            return os.sep
    return os.fsdecode(path)


def record(root: Path, file: Path) -> Callable[[], None]:
    """What, called in a child, writes down the kinds of moments it comes by, a line each."""

    def begin() -> None:
        out = file.open("a", encoding="utf-8")

        def met(kind: str, past: bool) -> None:
            if not past:
                out.write(json.dumps(kind) + "\n")
                out.flush()

        watch(root, met)

    return begin


def recorded(file: Path) -> list[str]:
    """The kinds of moments in the order they came by."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def kill_at(root: Path, kind: str, number: int, past: bool) -> Callable[[], None]:
    """What, called in a child, has it killed before or after a moment.

    Args:
      root: the directory that moments are of.
      kind: of the moment.
      number: which of those of its kind, from 1.
      past: whether it is killed after the change.
    """

    def begin() -> None:
        left = number

        def met(found: str, after: bool) -> None:
            nonlocal left
            if found != kind or after != past:
                return
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

        watch(root, met)

    return begin


def drawn(kinds: Sequence[str], random: Any) -> tuple[str, int]:
    """A kind, all alike likely, and one of its moments."""
    kind = random.choice(sorted(set(kinds)))
    return kind, random.randint(1, kinds.count(kind))
