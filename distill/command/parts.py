"""Of a command that makes several runs, one that goes on from an earlier checkpoint."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from absl import flags

from distill.errors import Damaged, UserError
from distill.train.workdir import Workdir

_FORM = re.compile(r"(.+)@(\d{1,10})")


def define_part(values: flags.FlagValues) -> None:
    """Defines --resume_from=PART@STEP."""
    flags.DEFINE_string(
        "resume_from",
        None,
        "PART@STEP: one of the runs, a directory of the workdir such as teacher, and the step of "
        "the checkpoint to go on from where later ones, or other files of it, are damaged; what is "
        "damaged is kept in PART/damaged. 0 begins that run anew.",
        flag_values=values,
    )


def workdir_of_parts(path: str, asked: str | None) -> Workdir:
    """The workdir of a command, of which one run goes on as `--resume_from` says.

    Args:
      path: of the workdir.
      asked: the flag's value; None goes on from the newest checkpoints.

    Raises:
      UserError: if there is no such run in it.
    """
    if asked is None:
        return Workdir(path)
    match, parts = _FORM.fullmatch(asked), parts_in(Path(path))
    if match is None or match[1] not in parts:
        raise UserError(
            f"--resume_from is {asked!r}; expected PART@STEP, such as teacher@100. Runs in {path} "
            f"are {', '.join(parts) or 'none'}"
        )
    return Workdir(path, parts={match[1]: int(match[2])})


def parts_in(workdir: Path) -> list[str]:
    """The runs in a directory, by their paths from it."""
    found = (one.parent for one in workdir.glob("**/checkpoints") if one.is_dir())
    return sorted(str(one.relative_to(workdir)) for one in found)


@contextmanager
def telling_parts(workdir: Path) -> Iterator[None]:
    """Adds to the error of what is damaged of a run what to type for one that is a part."""
    try:
        yield
    except Damaged as error:
        raise Damaged(
            f"{error}\nHere that is the same command with --resume_from=PART@STEP, PART being one "
            f"of {', '.join(parts_in(workdir)) or 'its runs'}"
        ) from error
