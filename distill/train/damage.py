"""What of a run's directory is damaged, what is sound, and going on from there.

Every item of a checkpoint has checksums of its files, see `distill.train.checked_items`, and small
files carry their own. What is damaged is refused, with the command that goes on without it.
"""

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from distill.buckets import place_of
from distill.checksums import FILE, damage_in
from distill.errors import Damaged, UserError
from distill.json_files import read_json
from distill.parallel import distributed
from distill.parallel.printed import say

CHECKPOINTS, BEST = "checkpoints", "best"
"""Directories of a workdir that hold checkpoints by their steps."""

ASIDE = "damaged"
"""Where in a workdir lies what was damaged, in directories by number."""

ITEMS = ("params", "optimizer", "progress")
"""What every checkpoint of a run has."""

_FILES = (
    *("config.json", "classes.json", "data.json", "claim.json"),
    *("teachers.json", "summary.json"),
)


def steps_in(directory: Path) -> list[int]:
    """Steps of the checkpoints in a directory, ascending."""
    if not directory.is_dir():
        return []
    return sorted(int(one.name) for one in directory.iterdir() if one.name.isdecimal())


def check_directory(folder: Path) -> None:
    """Checks that nothing else is where a run keeps checkpoints.

    Raises:
      Damaged: if a file is.
    """
    if folder.exists() and not folder.is_dir():
        raise Damaged(
            f"{folder} is damaged: it is a file where a directory of checkpoints is expected. Put "
            "back the directory, or move the file away"
        )


def check_kept(workdir: Path) -> None:
    """Checks that a run that is complete has checkpoints: it would be trained anew otherwise.

    Raises:
      Damaged: if it has none.
    """
    folder = workdir / CHECKPOINTS
    if (workdir / "summary.json").exists() and not steps_in(folder):
        raise Damaged(
            f"the checkpoints of the run in {place_of(workdir)} are gone: {folder} has none, and "
            "summary.json says that it is complete. Put back a copy of them, or run the command "
            "that trains it again with --resume_from=0 to begin anew; summary.json is kept in "
            f"{place_of(workdir)}/{ASIDE}"
        )


def has_checksums(checkpoint: Path) -> bool:
    """Whether a checkpoint was written with checksums, as earlier versions did not."""
    return any(checkpoint.glob(f"*/{FILE}"))


def problems_of(
    checkpoint: Path, items: Collection[str] = ITEMS, share: tuple[int, int] = (0, 1)
) -> list[str]:
    """What is damaged of a checkpoint's items; nothing can be told of one without checksums.

    Args:
      checkpoint: its directory.
      items: those that it must have.
      share: see `distill.checksums.damage_in`.
    """
    checked, found = has_checksums(checkpoint), []
    for item in sorted(items):
        if not (checkpoint / item).is_dir():
            found.append(f"{checkpoint / item} is gone")
        elif checked:
            damage = damage_in(checkpoint / item, share)
            found += [f"{checkpoint / item / FILE} is gone"] if damage is None else damage
    return found or (_other_step(checkpoint) if "progress" in items else [])


def _other_step(checkpoint: Path) -> list[str]:
    """What is said of a checkpoint that is under another step's name; earlier versions kept none.

    A file that cannot be read is told of by its checksum, or by whoever restores it.
    """
    try:
        said = read_json(checkpoint / "progress" / "metadata")
    except UserError:
        return []
    step = said.get("step") if isinstance(said, dict) else None
    if step is None or str(step) == checkpoint.name:
        return []
    return [f"{checkpoint} holds the state of step {step}"]


def all_problems(checkpoint: Path, items: Collection[str] = ITEMS) -> list[str]:
    """What is damaged of everything that a checkpoint holds, the items that it must have too."""
    there = {one.parent.name for one in checkpoint.glob(f"*/{FILE}")}
    return problems_of(checkpoint, there | set(items))


def newest_sound(workdir: Path, before: int | None = None) -> int | None:
    """Step of the newest checkpoint of which nothing is known to be damaged.

    Args:
      workdir: of the run.
      before: the step of a later one; None looks at all.
    """
    folder = workdir / CHECKPOINTS
    earlier = (step for step in reversed(steps_in(folder)) if before is None or step < before)
    # A bucket's copy to read lacks what only training reads.
    items = ITEMS if any(folder.glob("*/optimizer")) else ("params",)
    return next((step for step in earlier if not all_problems(folder / str(step), items)), None)


def check_sound(checkpoint: Path, items: Collection[str]) -> bool:
    """Checks the items of a checkpoint that are about to be read; all processes must call it.

    Each process reads a share of the files.

    Returns:
      Whether there were checksums to compare with.

    Raises:
      Damaged: on every process, naming what is damaged, what is not, and how to go on from there.
    """
    share = distributed.share()
    if distributed.total(len(problems_of(checkpoint, items, share)))[0]:
        raise damaged(checkpoint, problems_of(checkpoint, items))
    return has_checksums(checkpoint)


def damaged(checkpoint: Path, problems: Collection[str]) -> Damaged:
    """The error of a damaged checkpoint, which says how to go on.

    Args:
      checkpoint: its directory, `WORKDIR/checkpoints/STEP` or `WORKDIR/best/STEP`.
      problems: what is wrong with it.
    """
    workdir, step = checkpoint.parent.parent, int(checkpoint.name)
    first, *others = problems or ["it cannot be read"]
    listing = first.replace(f"{workdir}{os.sep}", "")
    listing += f", and {len(others)} more" if others else ""
    whose = f"of step {step} in {place_of(workdir)}"
    if place_of(workdir) != str(workdir):
        listing += f" (in the copy {workdir}; delete that, and it is fetched again)"
    if checkpoint.parent.name == BEST:
        return Damaged(f"the best weights, {whose}, are damaged: {listing}\n{mend(workdir)}")
    return Damaged(f"the checkpoint {whose} is damaged: {listing}\n{mend(workdir, before=step)}")


def mend(workdir: Path, before: int | None = None) -> str:
    """What to do where something of a run is damaged.

    Args:
      workdir: of the run.
      before: the step of its checkpoint that is; None if it is none.
    """
    if not (workdir / CHECKPOINTS).is_dir():
        return "Put back a copy of it, or begin in a new --workdir"
    sound = newest_sound(workdir, before)
    where = f"what is damaged is kept in {place_of(workdir)}/{ASIDE}"
    if sound is None:
        return (
            "There is no sound checkpoint to go on from. Put back a copy, or run the command that "
            f"trains it again with --resume_from=0 to begin anew; {where}"
        )
    return (
        f"The checkpoint of step {sound} is sound. Put back a copy of what is not, or run the "
        f"command that trains it again with --resume_from={sound} to go on from there; {where}"
    )


@contextlib.contextmanager
def mendable(workdir: Path) -> Iterator[None]:
    """Adds what to do to the error of a damaged file of a run."""
    try:
        yield
    except Damaged as error:
        raise Damaged(f"{error}\n{mend(workdir)}") from error


def set_aside(workdir: Path, step: int) -> list[str]:
    """Moves away what is in the way of a run that is to go on from an earlier checkpoint.

    These are the checkpoints after it, the summary of a run that was complete, and whatever else is
    damaged. It is said where they are kept. Call it before anything of the run is opened.

    Args:
      workdir: of the run.
      step: of the checkpoint; 0 begins anew.

    Returns:
      What was moved, by its name in the workdir.

    Raises:
      UserError: if there is no such checkpoint, or a later one is sound.
      Damaged: if it is damaged itself.
    """
    folder = workdir / CHECKPOINTS
    steps = steps_in(folder)
    if step and step not in steps:
        saved = ", ".join(map(str, steps)) or "none"
        raise UserError(f"--resume_from: no checkpoint of step {step} in {folder}; it has {saved}")
    if step and (problems := all_problems(folder / str(step))):
        raise damaged(folder / str(step), problems)
    later = [one for one in steps if one > step]
    for one in reversed(later):
        if has_checksums(folder / str(one)) and not all_problems(folder / str(one)):
            raise UserError(
                f"--resume_from={step}: the checkpoint of step {one} is sound, and later; use "
                f"--resume_from={one}, or leave it out to go on from the newest"
            )
    moved = [f"{CHECKPOINTS}/{one}" for one in later]
    moved += [
        f"{BEST}/{one}"
        for one in steps_in(workdir / BEST)
        if best_problems(workdir / BEST / str(one))
    ]
    moved += [
        name
        for name in _FILES
        if (workdir / name).exists()
        and (((later or not step) and name == "summary.json") or _is_damaged(workdir / name))
    ]
    _move(workdir, moved)
    return moved


def best_problems(checkpoint: Path) -> list[str]:
    """What is damaged of weights that did best."""
    kept = kept_problem(checkpoint)
    return problems_of(checkpoint, ("params",)) + ([kept] if kept else [])


def metrics_file(checkpoint: Path) -> Path:
    """Where weights that did best say by which metric they were kept, as JSON."""
    return checkpoint / "metrics" / "metrics"


def kept_problem(checkpoint: Path) -> str | None:
    """What is damaged of how well weights did."""
    file = metrics_file(checkpoint)
    try:
        kept = read_json(file)
    except UserError as error:
        return str(error)
    if isinstance(kept, dict) and isinstance(kept.get("value"), int | float) and "metric" in kept:
        return None
    return f"{file} is damaged: it names no metric and value"


def _is_damaged(file: Path) -> bool:
    try:
        return not isinstance(read_json(file), dict)
    except Damaged:
        return True


def _move(workdir: Path, names: Collection[str]) -> None:
    if not names:
        return
    number = 1
    while (workdir / ASIDE / str(number)).exists():
        number += 1
    kept = workdir / ASIDE / str(number)
    for name in names:
        (kept / name).parent.mkdir(parents=True, exist_ok=True)
        (workdir / name).rename(kept / name)
    say(f"kept aside in {kept}: {', '.join(names)}")
