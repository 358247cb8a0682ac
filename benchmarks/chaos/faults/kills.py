"""SIGKILL at any moment: the same command, run again, ends as if nothing had happened."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from random import Random

from benchmarks.chaos import facts, forked, moments, programs
from benchmarks.chaos.fault import CLEAN, LOST, TRACEBACK, Fault, Outcome

_MOMENTS, _SECONDS = "moments.jsonl", "seconds.json"


def prepare(given: Path) -> None:
    """Makes what programs start from, and each one's reference: what comes of it without a kill."""
    programs.starts(given)
    for program in programs.PROGRAMS.values():
        own = program.reference(given)
        program.begin(given, own)
        before = moments.record(own, own.with_name(f"{own.name}.{_MOMENTS}"))
        ended = programs.needed(programs.complete(program, given, own, before))
        own.with_name(f"{own.name}.{_SECONDS}").write_text(json.dumps(ended.seconds))


def trial(random: Random, directory: Path, given: Path) -> Outcome:
    """Kills a program one to three times, then runs it to its end."""
    program = random.choice(sorted(programs.PROGRAMS.values(), key=lambda one: one.name))
    own, reference = directory / "own", program.reference(given)
    program.begin(given, own)
    kinds = moments.recorded(reference.with_name(f"{reference.name}.{_MOMENTS}"))
    usual = json.loads(reference.with_name(f"{reference.name}.{_SECONDS}").read_text())
    arguments, tried = program.arguments(given, own), []
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        before: Callable[[], None] | None = None
        kill_after = None
        if random.random() < 0.3:
            kill_after = random.uniform(0.05, 1.1) * usual
            tried.append(f"after {kill_after:.2f} s")
        else:
            kind, number = moments.drawn(kinds, random)
            past = random.random() < 0.5
            before = moments.kill_at(own, kind, number, past)
            tried.append(f"{'after' if past else 'before'} {kind} {number}")
        ended = forked.run(
            forked.command(arguments, before),
            directory / "killed.log",
            seconds=programs.LIMIT,
            kill_after=kill_after,
        )
        said = f"{program.name} killed {', '.join(tried)}"
        if ended.code == -signal.SIGKILL or ended.code == 0:
            continue
        return Outcome(ended.fault or LOST, said, ended.last)
    return compared(program, given, own, said, reference)


def compared(
    program: programs.Program, given: Path, own: Path, said: str, reference: Path
) -> Outcome:
    """Runs a program to its end, and says whether that is the one of its reference."""
    ended = programs.complete(program, given, own)
    if ended.fault or ended.code:
        return Outcome(ended.fault or LOST, said, ended.last)
    try:
        found = programs.facts_beside(own)
    except OSError:
        return Outcome(TRACEBACK, said, ended.last)
    if different := facts.differing(found, programs.facts_beside(reference)):
        return Outcome(LOST, said, "\n".join(different))
    return Outcome(CLEAN, said)


FAULT = Fault(
    name="kills",
    tries="SIGKILL, one to three times, at a moment drawn from all of a run or from those at which "
    "files change; then the same command to its end",
    trials=1000,
    trial=trial,
    prepare=prepare,
    seconds=5 * programs.LIMIT,
)
