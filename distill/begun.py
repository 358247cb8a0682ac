"""Directories that are written under a temporary name, and what killed processes leave of them.

Each is locked as long as its process lives, however that ends: one that is not locked belongs to
nobody any more. The directory above is locked while one is made, so that none is seen that has no
lock yet.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_LOCK = ".in_use"
# Seconds in which a directory that is made gets its lock, where the one above cannot be locked.
_MADE = 60


@contextlib.contextmanager
def begun_directory(parent: Path, prefix: str) -> Iterator[Path]:
    """A new directory that is removed in the end, by the next that begins one if need be.

    Args:
      parent: of the directory.
      prefix: of its name; others with it that belong to no living process are removed first.
    """
    with contextlib.ExitStack() as stack:
        with alone_in(parent) as alone:
            _remove_left(parent, prefix, alone)
            made = tempfile.TemporaryDirectory(
                prefix=prefix, dir=parent, ignore_cleanup_errors=True
            )
            place = Path(stack.enter_context(made))
            lock = stack.enter_context((place / _LOCK).open("wb"))
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield place


@contextlib.contextmanager
def alone_in(parent: Path | str) -> Iterator[bool]:
    """While no other process begins anything there; False where the file system has no locks.

    What is made and locked meanwhile has its lock before another process looks for what killed ones
    have left.
    """
    directory = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        alone = True
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
        except OSError:
            alone = False
        yield alone
    finally:
        os.close(directory)


def _remove_left(parent: Path, prefix: str, alone: bool) -> None:
    """Removes directories of a prefix whose processes have ended."""
    for left in parent.glob(f"{prefix}*"):
        if _is_left(left / _LOCK, alone):
            shutil.rmtree(left, ignore_errors=True)


def _is_left(file: Path, alone: bool) -> bool:
    try:
        with file.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        # Whoever made it or was to remove it was killed, unless it is just being made.
        try:
            return alone or time.time() - file.parent.stat().st_mtime > _MADE
        except OSError:
            return False
    # Somebody has it, or the file system has no locks.
    except OSError:
        return False
    return True
