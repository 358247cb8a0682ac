"""What is tried in the trial's own process: readers of files that are no longer what they were."""

import contextlib
import resource
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

from benchmarks.chaos.fault import CLEAN, SILENT, TRACEBACK, Outcome
from distill.data.sources import CorruptImage
from distill.errors import UserError

_PAGE = resource.getpagesize()


def bound_memory(gib: float) -> None:
    """Lets this process take so much more than it has: what a damaged length asks for shows."""
    has = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * _PAGE
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (has + int(gib * 2**30), most))


def attempt(tried: str, read: Callable[[], bool]) -> Outcome:
    """Calls a reader.

    Args:
      tried: in words.
      read: returns whether what it read may be what it is; it may raise what a user is told, and
        that an image is corrupt.
    """
    bound_memory(3)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sound = read()
    except (UserError, CorruptImage):
        return Outcome(CLEAN, tried)
    except BaseException:  # noqa: BLE001
        return Outcome(TRACEBACK, tried, traceback.format_exc()[-2000:])
    return Outcome(CLEAN if sound else SILENT, tried)
