"""A search over shapes told while it runs, and kept for the next one."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.estimate.plan import GIB
from distill.estimate.shapes import Found, Shape
from distill.json_files import read_json, write_json
from distill.parallel.printed import say
from distill.train.progress import format_seconds
from distill.train.workdir import Workdir


class ShapeLog:
    """What has been compiled for one question.

    Args:
      workdir: keeps it in shapes.json; None keeps nothing.
      question: what is compiled for what; a workdir has the answers to one.
      complete: brings a question that an earlier version recorded to its present form.

    Raises:
      UserError: if the workdir cannot be written or belongs to another question.
    """

    def __init__(
        self,
        workdir: str | None,
        question: dict[str, Any],
        complete: Callable[[Any], Any] = lambda recorded: recorded,
    ):
        self._file = None
        self.found: list[Found] = []
        if workdir is None:
            return
        self._workdir = Workdir(workdir)
        self._workdir.claim(question, complete=complete)
        self._file = self._workdir.path / "shapes.json"
        if self._file.exists():
            self.found = _read(self._file)
            say(f"{len(self.found)} shapes are known already, from {self._file}")

    def announce(self, shape: Shape, most_left: int) -> None:
        """Says that a shape is being compiled, and how long it and `most_left` more may take."""
        line = f"compiling {shape}; at most {most_left} more to come"
        if self.found:
            seconds = sum(one.compile_seconds for one in self.found) / len(self.found)
            line += f"; ETA {format_seconds(seconds * (most_left + 1))}"
        say(line)

    def add(self, one: Found) -> Found:
        """Says what a shape has turned out to need, and keeps it."""
        seconds = one.step_seconds
        took = "larger than the chip" if seconds is None else f"{seconds:.3f} s a step, estimated"
        say(f"{one.shape}: {one.bytes_per_chip / GIB:.2f} GiB a chip; {took}")
        self.found.append(one)
        if self._file is not None:
            write_json(self._file, [dataclasses.asdict(each) for each in self.found])
        return one


def _read(file: Path) -> list[Found]:
    """What a search has found.

    Raises:
      UserError: if the file is damaged.
    """
    try:
        return [Found(**{**one, "shape": Shape(**one["shape"])}) for one in read_json(file)]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{file} does not hold what a search over shapes writes ({error!r}). Delete it to "
            "compile its shapes again"
        ) from error
