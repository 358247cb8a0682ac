"""What a class of faults declares, and what may come of a trial."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from random import Random

CLEAN, LOST, HUNG, TRACEBACK, SILENT = "clean", "lost", "hung", "traceback", "silent"
"""What comes of a trial: what was promised; a run that did not end as one that met no fault; no end
within the time; an error that explains nothing; another result without a word."""

OUTCOMES = (CLEAN, LOST, HUNG, TRACEBACK, SILENT)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a trial."""

    came: str
    """One of `OUTCOMES`."""
    tried: str
    """What was done, in words."""
    told: str = ""
    """What shows what went wrong."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """A class of faults."""

    name: str
    tries: str
    """What it does, in a sentence."""
    trials: int
    """How many are worth a release."""
    trial: Callable[[Random, Path, Path], Outcome]
    """Makes one: given what draws, a new directory for it, and one that `prepare` has filled."""
    prepare: Callable[[Path], None] | None = None
    """Fills a directory that all trials of the class read, once; it runs in a process that is
    forked."""
    seconds: float = 300
    """After which a trial has hung."""
    commands: bool = True
    """Whether trials run commands, for which much is imported before."""
    together: int = 1
    """Trials in a process, one after the other, where they start nothing."""
    missing: Callable[[], str | None] = lambda: None
    """Why it cannot be tried here; None if it can."""
