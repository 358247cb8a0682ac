"""Checks and times on a GPU, most important first, what needs one, within a time limit.

  python benchmarks/accelerator.py [--seconds=540] [--json=accelerator.jsonl] [--only=TEXT]

Each row is a command of this directory that could be run by hand, in a process of its own: it has
the device's memory to itself, its peak of memory is its own, and whatever ends it ends no other.
Every row is printed and appended to the file, as a line of JSON, when it is done. A row that the
time left does not allow is said to be skipped. It needs jax, flax, optax and numpy, and torch and
timm for the rows that compare with timm's. docs/performance.md explains the rows.

  JAX_PLATFORMS=cpu python benchmarks/accelerator.py --tiny

tries the same commands at sizes that mean nothing, on a machine without a GPU.
"""

import argparse
import dataclasses
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

DIRECTORY = Path(__file__).resolve().parent
# The code beside this file is what is run, whether or not a copy of it is installed.
sys.path.insert(0, str(DIRECTORY.parent))

from benchmarks.accelerator_rows import ROWS, Row
from benchmarks.arguments import file_to_write, positive_float
from distill.errors import UserError
from distill.terminal import accept_any_text

# Of what a command that failed said last.
KEPT_CHARACTERS = 4000
# JAX takes three quarters of a device's memory unless told otherwise.
MEMORY = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.95"}


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a row's command ended."""

    outcome: Literal["measured", "differs", "failed", "out of time", "skipped"]
    """`differs`: it ran, and what it checks does not hold."""
    figures: dict[str, Any] | None = None
    """What the command wrote."""
    reason: str | None = None
    said: str | None = None
    """The end of standard error of a command that wrote no figures."""
    seconds: float = 0.0


def run_row(row: Row, seconds: float) -> Ended:
    """Runs a row's command, for so many seconds at most."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        figures, errors = Path(directory, "figures.json"), Path(directory, "stderr")
        command = [sys.executable, str(DIRECTORY / row.script), *row.flags, f"--json={figures}"]
        try:
            # Into files: a pipe would be waited for until the last process that holds it ends.
            with errors.open("wb") as stderr:
                status = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    timeout=seconds,
                    check=False,
                    env=environment_of(row),
                ).returncode
        except subprocess.TimeoutExpired:
            status = None
        took = time.monotonic() - began
        said = errors.read_text(encoding="utf-8", errors="replace")[-KEPT_CHARACTERS:]
        found = json.loads(figures.read_text(encoding="utf-8")) if figures.exists() else None
    if found is not None:
        holds = found.get("holds", True)
        return Ended("measured" if holds else "differs", found, seconds=took)
    if status is None:
        return Ended("out of time", None, f"stopped after {took:.0f} s", said, took)
    return Ended("failed", None, f"status {status}: {last_error(said)}", said, took)


def environment_of(row: Row) -> dict[str, str]:
    """The environment of a row's command; what the user has set comes before what the row has."""
    flags = " ".join((os.environ.get("XLA_FLAGS", ""), *row.xla_flags)).strip()
    return MEMORY | dict(row.environment) | os.environ | {"XLA_FLAGS": flags}


def last_error(text: str) -> str:
    """The line of standard error that names what ended a program."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # Such as "jax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED: …", behind which JAX says more.
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Exit)\b.*: ", line)]
    return (named or lines or ["it said nothing"])[-1][:400]


def rows_ended(rows: Sequence[Row], deadline: float) -> Iterator[tuple[Row, Ended]]:
    """Runs rows in order; skips what the deadline, of the monotonic clock, does not allow."""
    for row in rows:
        left = deadline - time.monotonic()
        if left < row.least_seconds:
            reason = f"{max(left, 0):.0f} s are left, and it needs about {row.least_seconds:.0f}"
            yield row, Ended("skipped", reason=reason)
        else:
            yield row, run_row(row, min(left, row.most_seconds))


def told(row: Row, ended: Ended) -> str:
    """A row's line for a reader."""
    if ended.figures is None:
        return f"{ended.outcome}: {ended.reason}"
    return ("" if ended.outcome == "measured" else "DIFFERS: ") + row.tell(ended.figures)


def check_device(row: Row, ended: Ended, *, tiny: bool) -> None:
    """Refuses to go on without a GPU, of which the first row tells.

    Raises:
      UserError: if JAX does not start, or finds no GPU where one is needed.
    """
    if ended.figures is None:
        raise UserError(f"JAX does not start here ({row.script}): {ended.reason}")
    if not tiny and ended.figures["platform"] not in ("gpu", "cuda"):
        raise UserError(
            f"JAX finds a device of platform {ended.figures['platform']!r}, expected a GPU; "
            "install JAX for CUDA (jax[cuda12] or jax[cuda13]), or give --tiny to try the "
            "commands here"
        )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line.

    Raises:
      SystemExit: with status 2 for arguments that cannot be.
    """
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--seconds", type=positive_float, default=540.0, help="in all (%(default)g)")
    add(
        "--json",
        type=file_to_write,
        default="accelerator.jsonl",
        metavar="FILE",
        help="what rows are appended to, a line of JSON each (%(default)s)",
    )
    add("--only", default="", metavar="TEXT", help="the rows whose name contains it")
    add("--tiny", action="store_true", help="at sizes that any machine runs")
    args = parser.parse_args(argv)
    if not any(args.only in row.name for row in ROWS):
        names = "; ".join(row.name for row in ROWS)
        parser.error(f"--only={args.only!r} is in no row's name; there are {names}")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the rows, prints and appends each.

    Raises:
      SystemExit: with status 2 for arguments that cannot be or without a GPU, 1 if what a row
        checks does not hold.
    """
    started = time.monotonic()
    accept_any_text()
    args = parse(argv)
    deadline = started + args.seconds
    first, *others = (row.shrunk() for row in ROWS) if args.tiny else ROWS
    rows = [first, *(row for row in others if args.only in row.name)]
    began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    width = max(len(row.name) for row in rows)
    differ = []
    for row, ended in rows_ended(rows, deadline):
        line = {"began": began, "row": row.name, "command": row.command}
        with args.json.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line | dataclasses.asdict(ended)) + "\n")
        print(f"{row.name:<{width}}  {told(row, ended)}", flush=True)
        if row is first:
            try:
                check_device(row, ended, tiny=args.tiny)
            except UserError as error:
                print(error, file=sys.stderr)
                sys.exit(2)
        if ended.outcome == "differs":
            differ.append(row.name)
    if differ:
        sys.exit(f"does not hold: {', '.join(differ)}")


if __name__ == "__main__":
    main()
