"""What a user asks for in a line, and what of it an output directory remembers."""

import dataclasses
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.auto.choices import Choice
from distill.errors import UserError
from distill.json_files import read_json, write_json
from distill.paths import local_path

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


def remembered(request: Request, out: Path) -> dict[str, Any] | None:
    """What a directory says of an earlier line that asked for the same; None of a new one.

    Raises:
      UserError: if it is of another line, or holds something else.
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
    if different:
        listing = "\n".join(different)
        raise UserError(
            f"{out} is of another line\n{listing}\nChoose another --out, or go on with the same "
            "line; what it chose is in its config.py"
        )
    return found


def remember(
    request: Request, out: Path, command: str, match: str, choices: Sequence[Choice]
) -> None:
    """Writes what was asked for and why what was chosen; the config is written after it."""
    rows = [choice._asdict() for choice in choices]
    content = dict(request=request.recorded(), command=command, match=match, choices=rows)
    write_json(out / RECORD, content)
