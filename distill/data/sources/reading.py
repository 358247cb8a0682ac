"""Reading files from file systems that fail now and then."""

import time
from collections.abc import Callable
from typing import TypeVar

from distill.data.sources.base import printable
from distill.errors import RunFailed

T = TypeVar("T")

# Seconds before the second, third and fourth attempt: a network file system is soon back, or not.
_PAUSES = (0.1, 0.5, 2.4)


def read_file(path: str, sleep: Callable[[float], None] = time.sleep) -> bytes:
    """The file's content.

    Raises:
      RunFailed: if the system cannot read it, several times in three seconds.
    """
    return persistently(lambda: _read(path), path, sleep=sleep)


def persistently(
    action: Callable[[], T], what: str, *, sleep: Callable[[float], None] = time.sleep
) -> T:
    """What `action` returns, tried again where the system fails.

    Args:
      action: reads something.
      what: it reads, for the error.
      sleep: waits so many seconds.

    Raises:
      RunFailed: if the system fails each time.
    """
    for pause in _PAUSES:
        try:
            return action()
        except OSError:
            sleep(pause)
    try:
        return action()
    except OSError as error:
        raise RunFailed(
            f"{printable(what)} cannot be read: {error.strerror or error} "
            f"({len(_PAUSES) + 1} attempts in {sum(_PAUSES):g} s). Check the disk or the network "
            "file system, the file's permissions and the limit on open files (ulimit -n)"
        ) from error


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
