"""Runs trials in processes that are forked, and keeps what came of each."""

import dataclasses
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random

from benchmarks.chaos import forked
from benchmarks.chaos.fault import HUNG, OUTCOMES, TRACEBACK, Fault
from distill.json_files import append_json_line, read_json_lines
from distill.modules import modules_in

FILE = "trials.jsonl"
_POLL = 0.02


def faults() -> dict[str, Fault]:
    """All classes, by name."""
    found = [module.FAULT for module in modules_in("benchmarks.chaos.faults")]
    return {fault.name: fault for fault in found}


@dataclasses.dataclass(frozen=True)
class Came:
    """A trial that was made."""

    fault: str
    number: int
    came: str
    tried: str
    told: str
    seconds: float

    @property
    def name(self) -> str:
        """As --only takes it."""
        return f"{self.fault}:{self.number}"


@dataclasses.dataclass
class _Running:
    """A process that makes some trials of a class, one after the other."""

    fault: Fault
    numbers: list[int]
    results: Path
    log: Path
    pid: int
    last: float
    """When it was last heard of."""
    known: int = 0


class Campaign:
    """Trials of classes of faults, in a directory that says which have been made.

    Args:
      output: the directory.
      seed: of what is drawn, with a class's name and a trial's number.
      keep: whether the directories of all trials are kept, not only of those that went wrong.
    """

    def __init__(self, output: Path, seed: int, *, keep: bool = False):
        self._output, self._seed, self._keep = output, seed, keep
        output.mkdir(parents=True, exist_ok=True)
        self._file = output / FILE

    def made(self) -> dict[str, Came]:
        """The trials of this seed that were made, by their names; the last of each."""
        if not self._file.exists():
            return {}
        rows = [row for row in read_json_lines(self._file) if row.pop("seed") == self._seed]
        return {one.name: one for one in (Came(**row) for row in rows)}

    def prepare(self, fault: Fault) -> None:
        """Makes what the trials of a class read, if it is not there.

        Raises:
          RuntimeError: if it cannot be made.
        """
        given = self._given(fault)
        done = given / ".done"
        if fault.prepare is None or done.exists():
            given.mkdir(parents=True, exist_ok=True)
            return
        shutil.rmtree(given, ignore_errors=True)
        given.mkdir(parents=True)
        prepare = fault.prepare

        def body() -> None:
            os.setsid()
            prepare(given)
            done.touch()

        log = self._output / f"prepare-{fault.name}.log"
        log.unlink(missing_ok=True)
        ended = forked.run(body, log, seconds=1800)
        if ended.code != 0:
            raise RuntimeError(f"the class {fault.name} cannot be prepared: {ended.last}")

    def run(self, asked: Mapping[Fault, Sequence[int]], jobs: int) -> Iterator[Came]:
        """Makes trials, each class's in order, and yields what came of each.

        Args:
          asked: the numbers of the trials, by class; each class must have been prepared.
          jobs: processes at once.
        """
        waiting = [
            (fault, list(numbers[start : start + fault.together]))
            for fault, numbers in asked.items()
            for start in range(0, len(numbers), fault.together)
        ]
        waiting.reverse()
        running: list[_Running] = []
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    running.append(self._begin(*waiting.pop()))
                time.sleep(_POLL)
                for one in list(running):
                    ended = os.waitpid(one.pid, os.WNOHANG)[0] != 0
                    yield from self._heard(one)
                    hung = time.monotonic() - one.last > one.fault.seconds
                    if not ended and not hung:
                        continue
                    running.remove(one)
                    # With all that it started.
                    _end_group(one.pid)
                    if not ended:
                        os.waitpid(one.pid, 0)
                    if left := one.numbers[one.known :]:
                        yield self._failed(one, left[0], HUNG if hung else TRACEBACK)
                        if left[1:]:
                            waiting.append((one.fault, left[1:]))
        finally:
            for one in running:
                _end_group(one.pid)

    def _given(self, fault: Fault) -> Path:
        return self._output / "given" / fault.name

    def _directory(self, fault: Fault, number: int) -> Path:
        return self._output / "trials" / f"{fault.name}-{number}"

    def _begin(self, fault: Fault, numbers: list[int]) -> _Running:
        named = self._output / "running" / f"{fault.name}-{numbers[0]}"
        named.parent.mkdir(exist_ok=True)
        results, log = named.with_suffix(".jsonl"), named.with_suffix(".log")
        for file in (results, log):
            file.unlink(missing_ok=True)

        def body() -> None:
            os.setsid()
            for number in numbers:
                directory = self._directory(fault, number)
                shutil.rmtree(directory, ignore_errors=True)
                directory.mkdir(parents=True)
                begun = time.monotonic()
                # A string, so that it is the same in every process.
                random = Random(f"{self._seed} {fault.name} {number}")
                outcome = fault.trial(random, directory, self._given(fault))
                if outcome.came not in OUTCOMES:
                    raise ValueError(f"no outcome: {outcome.came}")
                row = dataclasses.asdict(outcome)
                append_json_line(results, row | {"seconds": time.monotonic() - begun})

        pid = forked.forked(body, log)
        return _Running(fault, numbers, results, log, pid, time.monotonic())

    def _heard(self, one: _Running) -> Iterator[Came]:
        """What it has said since it was asked last."""
        rows = read_json_lines(one.results) if one.results.exists() else []
        for row in rows[one.known :]:
            number = one.numbers[one.known]
            one.known, one.last = one.known + 1, time.monotonic()
            yield self._keep_row(Came(one.fault.name, number, **row))

    def _failed(self, one: _Running, number: int, came: str) -> Came:
        """Of the trial that a process was at when it ended."""
        told = one.log.read_text(encoding="utf-8", errors="replace")[-2000:]
        seconds = time.monotonic() - one.last
        return self._keep_row(Came(one.fault.name, number, came, "the trial itself", told, seconds))

    def _keep_row(self, came: Came) -> Came:
        append_json_line(self._file, {"seed": self._seed, **dataclasses.asdict(came)})
        if came.came == "clean" and not self._keep:
            shutil.rmtree(self._output / "trials" / f"{came.fault}-{came.number}", True)
        return came


def _end_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except PermissionError:
        traceback.print_exc(file=sys.stderr)
