"""SIGKILL at any moment: the same command, run again, ends as if nothing had happened."""

import dataclasses
import json
import signal
from collections.abc import Sequence
from pathlib import Path
from random import Random

from benchmarks.chaos import facts, forked, moments, programs
from benchmarks.chaos.fault import CLEAN, LOST, Fault, Outcome


@dataclasses.dataclass(frozen=True)
class Kill:
    """When a command is killed."""

    after: float | None = None
    """Seconds; None for one of the moments at which files change."""
    kind: str = ""
    """Of the moment, see `moments.kind_of`."""
    number: int = 1
    """Which of those of its kind."""
    past: bool = True
    """Whether the file has changed by then."""

    def __str__(self) -> str:
        if self.after is not None:
            return f"after {self.after:.2f} s"
        return f"{'after' if self.past else 'before'} {self.kind} {self.number}"


def trial(random: Random, directory: Path, given: Path) -> Outcome:
    """Kills a program one to three times, then runs it to its end."""
    program = programs.PROGRAMS[random.choice(sorted(programs.PROGRAMS))]
    reference = program.reference(given)
    kinds = moments.recorded(programs.beside(reference, "moments.jsonl"))
    usual = json.loads(programs.beside(reference, "seconds.json").read_text(encoding="utf-8"))
    kills = []
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        if random.random() < 0.3:
            kills.append(Kill(random.uniform(0.05, 1.1) * usual))
        else:
            kind, number = moments.drawn(kinds, random)
            kills.append(Kill(None, kind, number, random.random() < 0.5))
    return killed(program, kills, directory, given)


def killed(
    program: programs.Program, kills: Sequence[Kill], directory: Path, given: Path
) -> Outcome:
    """Kills a program, each time at a moment of what it goes on with, then runs it to its end."""
    own, reference = directory / "own", program.reference(given)
    program.begin(given, own)
    said = f"{program.name} killed {', '.join(map(str, kills))}"
    for kill in kills:
        before = None
        if kill.after is None:
            before = moments.kill_at(own, kill.kind, kill.number, kill.past)
        ended = forked.run(
            forked.command(program.arguments(given, own), before),
            directory / "killed.log",
            seconds=programs.LIMIT,
            kill_after=kill.after,
        )
        if ended.code not in (-signal.SIGKILL, 0):
            return Outcome(ended.fault or LOST, said, ended.last)
    return compared(program, given, own, said, reference)


def compared(
    program: programs.Program, given: Path, own: Path, said: str, reference: Path
) -> Outcome:
    """Runs a program to its end, and says whether that is the one of its reference."""
    ended = programs.complete(program, given, own)
    if ended.fault or ended.code:
        return Outcome(ended.fault or LOST, said, ended.last)
    different = facts.differing(programs.facts_beside(own), programs.facts_beside(reference))
    return Outcome(LOST, said, "\n".join(different)) if different else Outcome(CLEAN, said)


FAULT = Fault(
    name="kills",
    tries="SIGKILL, one to three times, at a moment drawn from all of a run or from those at which "
    "files change; then the same command to its end",
    trials=1000,
    trial=trial,
    seconds=8 * programs.LIMIT,
)
