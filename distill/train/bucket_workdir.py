"""A run's workdir in a bucket: one local copy, in which all of the run's processes work."""

import contextlib
import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

from distill.buckets import Copy, mirrored
from distill.errors import UserError
from distill.parallel import distributed
from distill.parallel.printed import say
from distill.paths import in_bucket


def path_of(workdir: str) -> Path:
    """Where a run works: the workdir itself, or the local copy of one in a bucket."""
    return Copy(workdir).directory if in_bucket(workdir) else Path(workdir)


@contextlib.contextmanager
def opened(workdir: str) -> Iterator[Path]:
    """A local directory that is the workdir, or whose content a bucket has too; see `mirrored`.

    The primary process fetches and sends. If the bucket fails, the run is asked to save and stop as
    by SIGTERM.

    Raises:
      UserError: if the bucket cannot be used, another process is at work there, or processes do not
        see one copy.
      RunFailed: if the bucket cannot be reached, also at the end.
    """
    if not in_bucket(workdir):
        yield Path(workdir)
    elif distributed.is_primary():
        with mirrored(workdir, _stop) as directory:
            say(f"{workdir} is worked on in {directory}")
            _check_shared(workdir)
            yield directory
    else:
        _check_shared(workdir)
        yield path_of(workdir)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _check_shared(workdir: str) -> None:
    """Waits for the primary, and checks that all processes see what it wrote."""
    if not distributed.several():
        return
    file = Copy(workdir).root / "shared"
    token = secrets.randbelow(2**31)
    if distributed.is_primary():
        file.write_text(str(token), encoding="utf-8")
    token = distributed.agree(token)
    sees = file.exists() and file.read_text(encoding="utf-8") == str(token)
    unseen = distributed.total(int(not sees))[0]
    if unseen:
        raise UserError(
            f"{unseen} of the processes do not see the copy of {workdir} in {file.parent}: their "
            "checkpoints are written together. Set DISTILL_STAGING to a directory that all of them "
            "share"
        )
