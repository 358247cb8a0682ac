"""Directories that are written under a temporary name, and what killed processes leave of them.

Each is locked as long as its process lives, however that ends: one that is not locked belongs to
nobody any more.
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
# Seconds in which a directory that is made gets its lock.
_MADE = 60


@contextlib.contextmanager
def begun_directory(parent: Path, prefix: str) -> Iterator[Path]:
    """A new directory that is removed in the end, by the next that begins one if need be.

    Args:
      parent: of the directory.
      prefix: of its name; others with it that belong to no living process are removed first.
    """
    remove_left(parent, prefix)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True) as name:
        place = Path(name)
        # It is locked before anybody can see that it may be locked.
        with (place / f"{_LOCK}.new").open("wb") as lock:
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(lock.name, place / _LOCK)
            yield place


def remove_left(parent: Path, prefix: str) -> None:
    """Removes directories of a prefix whose processes have ended."""
    for left in parent.glob(f"{prefix}*"):
        if _is_left(left / _LOCK):
            shutil.rmtree(left, ignore_errors=True)


def _is_left(file: Path) -> bool:
    try:
        with file.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        # It is just being made, or its end was killed.
        try:
            return time.time() - file.parent.stat().st_mtime > _MADE
        except OSError:
            return False
    # Somebody has it, or the file system has no locks.
    except OSError:
        return False
    return True
