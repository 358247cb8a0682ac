"""What a run leaves when it cannot go on: what is said of it, and what it had begun to write."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from distill.errors import UserError
from distill.parallel.last_words import newest_checkpoint
from distill.train.damage import CHECKPOINTS
from distill.unwritten import cannot_write


@contextlib.contextmanager
def writing_to(workdir: Callable[[], Path | None]) -> Iterator[None]:
    """Explains what could not be written, with the step that stands.

    Args:
      workdir: says which one is written to; None of a command that has none.

    Raises:
      CannotWrite: if something could not be written.
    """
    try:
        yield
    except UserError:
        # It says by itself what is wrong.
        raise
    except Exception as error:
        place = workdir()
        if found := cannot_write(error, stands(place), place):
            raise found from error
        raise


def stands(workdir: Path | None) -> str:
    """What is safe of what a command did, and how to go on, in sentences."""
    again = "Run the same command again"
    if workdir is None:
        return again
    # Of several students, each has its own.
    places = [one.parent for one in (workdir / CHECKPOINTS, *workdir.glob(f"*/{CHECKPOINTS}"))]
    steps = [step for one in places if (step := newest_checkpoint(str(one))) is not None]
    if steps:
        return f"Step {min(steps)} is saved: run the same command again to go on from it"
    if any(workdir.glob("*.array_record")):
        return f"Files that are finished stay. {again} to go on after them"
    return f"Nothing was saved yet. {again} to begin anew"
