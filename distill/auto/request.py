"""What a user asks for in a line, and what of it an output directory remembers."""

import dataclasses
import errno
import fcntl
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.auto.choices import Choice
from distill.data.sources.formats import parts_of
from distill.errors import UserError
from distill.json_files import read_json, write_json
from distill.parallel.printed import say
from distill.paths import in_bucket, local_path
from distill.train.workdir import CLASSES, DATA

CONFIG = "config.py"
"""Of an output directory: the config that was chosen."""
RECORD = "auto.json"
"""Of an output directory: what was asked for, and why what was chosen."""


@dataclasses.dataclass(frozen=True)
class Request:
    """A line that asks for a run.

    Paths are as they were typed, or absolute where they exist.
    """

    data: str
    teacher: str | None = None
    student: str | None = None
    budget: str | None = None
    overrides: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def recorded(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**dataclasses.asdict(self), "overrides": dict(self.overrides)}

    def line(self, out: Path) -> str:
        """What to type."""
        words = ["distill", "auto", self.data]
        for name in ("teacher", "student", "budget"):
            if value := getattr(self, name):
                words.append(f"--{name}={value}")
        words.append(f"--out={out}")
        words += [f"--config.{key}={value}" for key, value in self.overrides.items()]
        return shlex.join(words)


def absolute(text: str) -> str:
    """The absolute path of what is there, or else the text."""
    return local_path(text) if os.path.exists(os.path.expanduser(text)) else text


def default_out(request: Request) -> Path:
    """The directory of a run that is given none: named after its data and its teacher."""
    kind, _, argument = request.data.partition(":")
    names = [Path(argument or kind).name]
    if request.teacher:
        names += ["from", Path(request.teacher).name]
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(names)).strip("._") or "auto"
    return Path(local_path(f"runs/{name}"))


def check_out(request: Request, out: Path) -> None:
    """Checks that what is written does not lie among the images.

    Raises:
      UserError: if `out` is the folder that they are in, or one in it.
    """
    _, argument, _ = parts_of(request.data)
    for text in filter(None, (request.data, argument)):
        if in_bucket(text) or not os.path.isdir(os.path.expanduser(text)):
            continue
        folder, place = Path(local_path(text)).resolve(), out.expanduser().resolve()
        if place == folder or folder in place.parents:
            where = "is the folder of images itself" if place == folder else f"lies in {folder}"
            raise UserError(
                f"{out} {where}, where what a run writes would be read as images and classes; "
                "choose another --out, outside of it"
            )


def remembered(request: Request, out: Path) -> dict[str, Any] | None:
    """What a directory says of an earlier line that asked for the same; None of a new one.

    What another line chose, of which nothing is trained, counts for nothing: a dry run's, or that
    of a line which ended before its first step. `forget` removes it.

    Raises:
      UserError: if it is of another line that has trained, or holds something else.
    """
    config, record = out / CONFIG, out / RECORD
    if not config.exists():
        if (out / "config.json").exists():
            raise UserError(f"{out} is the workdir of another run; choose another --out")
        return None
    found = read_json(record) if record.exists() else None
    if not isinstance(found, dict) or "request" not in found:
        raise UserError(f"{config} is not what `distill auto` wrote; choose another --out")
    asked, there = request.recorded(), found["request"]
    different = [
        f"  {key}: {there.get(key)!r} there, {value!r} now"
        for key, value in asked.items()
        if there.get(key) != value
    ]
    if different and not _begun(out):
        say(f"auto: chooses anew in {out}, where another line has chosen and trained nothing")
        return None
    if different:
        listing = "\n".join(different)
        raise UserError(
            f"{out} is of another line\n{listing}\nChoose another --out, or go on with the same "
            "line; what it chose is in its config.py"
        )
    return found


def _begun(out: Path) -> bool:
    """Whether the run in a directory has taken a step, or a process is at work there."""
    kept = [file for file in out.glob("checkpoints/*") if file.name.isdigit()]
    metrics = out / "metrics.jsonl"
    if kept or (metrics.exists() and metrics.stat().st_size):
        return True
    if not (out / ".lock").exists():
        return False
    with (out / ".lock").open("r+b") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in (errno.EACCES, errno.EAGAIN)
    return False


def forget(out: Path) -> None:
    """Removes what a line chose, and what its run recorded of itself before its first step.

    Raises:
      UserError: if a run has begun there since `remembered` looked.
    """
    if _begun(out):
        raise UserError(f"another line has begun to train in {out} meanwhile; choose another --out")
    # Without a config nothing is remembered, should this be interrupted after it.
    for name in ("config.json", CLASSES, DATA, "teachers.json", CONFIG, RECORD):
        (out / name).unlink(missing_ok=True)


def remember(
    request: Request, out: Path, command: str, match: str, choices: Sequence[Choice]
) -> None:
    """Writes what was asked for and why what was chosen; the config is written after it."""
    rows = [choice._asdict() for choice in choices]
    content = dict(request=request.recorded(), command=command, match=match, choices=rows)
    write_json(out / RECORD, content, checked=True)
