"""Redoes claims of the papers at the scale of a laptop, and says which hold.

  python -m benchmarks.claims [NAME …] [--workdir=runs/claims] [--budget=2h]

Without a name all of them; --list says which there are. Trainings that came to their end are kept
and used again, whichever claim asks for them, and what was stopped goes on where it stood. What is
found is written to docs/papers/NAME.json and .png, and docs/papers.md is made of these, but of
other --seeds: that is printed alone.
"""

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

# The code beside this file is what is measured, and computes on the CPU.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from benchmarks.arguments import positive_int
from benchmarks.claims.claim import SEEDS, Claim, claims
from benchmarks.claims.page import PAGES, keep, write_page
from benchmarks.claims.performing import perform
from benchmarks.claims.runs import Finished, Run
from distill.errors import RunFailed, UserError
from distill.paths import path_argument
from distill.terminal import accept_any_text, text_table

# Each is a training or more.
_MOST_SEEDS = 100


def main(argv: Sequence[str] | None = None) -> int:
    """Trains what is missing, concludes, prints, writes."""
    accept_any_text()
    known = claims()
    arguments = _parse(argv, known)
    if arguments.list:
        for claim in known.values():
            print(f"{claim.name:<17} {claim.title}\n{'':<17} {claim.source}")
        return 0
    asked = [known[name] for name in arguments.names or known]
    seeds, complete = range(arguments.seeds), True
    for claim in asked if not arguments.page else ():
        complete &= _redo(claim, seeds, arguments)
    if arguments.seeds == len(SEEDS):
        print(f"page  {write_page(PAGES, known)}")
    else:
        print(f"{PAGES / 'papers.md'} is left as it is: it has {len(SEEDS)} seeds")
    return 0 if complete else 1


def _redo(claim: Claim, seeds: Sequence[int], arguments: argparse.Namespace) -> bool:
    """One claim; False where the time has not sufficed."""
    kinds, began = {"": claim.runs, "broken": claim.broken_runs}, time.monotonic()
    for kind, make in kinds.items():
        if make is None:
            continue
        print(f"\n{claim.name}: {claim.title}{' (broken: ' + claim.broken + ')' if kind else ''}")
        runs = make(seeds)
        left = arguments.budget
        if left is not None:
            left = max(left - (time.monotonic() - began), 0)
        ended = perform(runs.values(), arguments.workdir, jobs=arguments.jobs, seconds=left)
        if not ended:
            print(f"{claim.name}: not all runs have ended; the same command goes on")
            return False
        found = {key: run.finished(arguments.workdir) for key, run in runs.items()}
        _check_finite(claim, runs, found)
        conclusion = claim.conclude(found)
        print(text_table(conclusion.header, conclusion.rows))
        print(f"{conclusion.verdict}: {conclusion.because}")
        if arguments.seeds == len(SEEDS):
            root = arguments.workdir
            keep(PAGES, claim, conclusion, runs.values(), root, broken=bool(kind))
    return True


def _check_finite(claim: Claim, runs: Mapping[Any, Run], found: Mapping[Any, Finished]) -> None:
    """Where a claim is not about what diverges, nothing may have.

    Raises:
      RunFailed: naming a run that has.
    """
    gone = [key for key, one in found.items() if one.diverged]
    if gone and not claim.takes_diverged:
        raise RunFailed(
            f"{claim.name}: the run {runs[gone[0]].name} ({gone[0]}) ended in numbers that are not "
            "finite, so that nothing is concluded. Delete its directory to train it again"
        )


def _parse(argv: Sequence[str] | None, known: dict[str, Claim]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.claims",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="of claims; none is all")
    parser.add_argument(
        "--workdir", type=path_argument, default="runs/claims", help="of runs; default: %(default)s"
    )
    parser.add_argument(
        "--budget",
        type=_seconds,
        help="of each claim, such as 25m or 2h: after it no run is begun, and those that have "
        "been come to their end",
    )
    parser.add_argument(
        "--jobs", type=positive_int, default=os.cpu_count(), help="runs at once; default: cores"
    )
    parser.add_argument("--seeds", type=positive_int, default=len(SEEDS), help="of each setting")
    parser.add_argument("--list", action="store_true", help="say which claims there are")
    parser.add_argument("--page", action="store_true", help="only write the page again")
    arguments = parser.parse_args(argv)
    if unknown := sorted(set(arguments.names) - set(known)):
        parser.error(f"no claim {', '.join(unknown)}; there are {', '.join(known)}")
    if not 2 <= arguments.seeds <= _MOST_SEEDS:
        parser.error(f"--seeds must be 2, for a spread, to {_MOST_SEEDS}, not {arguments.seeds}")
    if arguments.workdir.exists() and not arguments.workdir.is_dir():
        parser.error(f"--workdir: {arguments.workdir} is no directory")
    return arguments


def _seconds(text: str) -> float:
    from distill.auto.budget import read_budget

    try:
        budget = read_budget(text)
        seconds = budget.seconds
    except UserError:
        seconds = None
    if seconds is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; expected such as 25m or 2h")
    return seconds


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nclaims: stopped; the same command goes on", file=sys.stderr)
        sys.exit(130)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
