"""Redoes claims of the papers at the scale of a laptop, and says which hold.

  python -m benchmarks.claims [NAME …] [--workdir=runs/claims] [--budget=2h]

Without a name all of them; --list says which there are. Trainings that came to their end are kept
and used again, whichever claim asks for them, and what was stopped goes on where it stood. What is
found is written to docs/papers/NAME.json and .png, and docs/papers.md is made of these.
"""

import argparse
import os
import sys
from collections.abc import Sequence

# The code beside this file is what is measured, and computes on the CPU.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from benchmarks.arguments import positive_int
from benchmarks.claims.claim import SEEDS, Claim, claims
from benchmarks.claims.page import PAGES, keep, write_page
from benchmarks.claims.performing import perform
from distill.errors import UserError
from distill.paths import path_argument
from distill.terminal import accept_any_text, text_table


def main(argv: Sequence[str] | None = None) -> int:
    """Trains what is missing, concludes, prints, writes."""
    accept_any_text()
    known = claims()
    arguments = _parse(argv, known)
    if arguments.list:
        print(text_table(("claim", "", ""), [(c.name, c.title, c.source) for c in known.values()]))
        return 0
    asked = [known[name] for name in arguments.names or known]
    seeds, complete = range(arguments.seeds), True
    for claim in asked if not arguments.page else ():
        complete &= _redo(claim, seeds, arguments)
    print(f"page  {write_page(PAGES, known)}")
    return 0 if complete else 1


def _redo(claim: Claim, seeds: Sequence[int], arguments: argparse.Namespace) -> bool:
    """One claim; False where the time has not sufficed."""
    kinds = {"": claim.runs, "broken": claim.broken_runs}
    for kind, make in kinds.items():
        if make is None:
            continue
        print(f"\n{claim.name}: {claim.title}{' (broken: ' + claim.broken + ')' if kind else ''}")
        runs = make(seeds)
        ended = perform(
            runs.values(), arguments.workdir, jobs=arguments.jobs, seconds=arguments.budget
        )
        if not ended:
            print(f"{claim.name}: not all runs have ended; the same command goes on")
            return False
        found = {key: run.finished(arguments.workdir) for key, run in runs.items()}
        conclusion = claim.conclude(found)
        print(text_table(conclusion.header, conclusion.rows))
        print(f"{conclusion.verdict}: {conclusion.because}")
        keep(PAGES, claim, conclusion, runs, found, broken=bool(kind))
    return True


def _parse(argv: Sequence[str] | None, known: dict[str, Claim]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.claims",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="of claims; none is all")
    parser.add_argument("--workdir", type=path_argument, default="runs/claims")
    parser.add_argument(
        "--budget", type=_seconds, help="of each claim, such as 25m or 2h: then no run is begun"
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
    if arguments.seeds < 2:
        parser.error(f"--seeds must be 2 or more for a spread, not {arguments.seeds}")
    return arguments


def _seconds(text: str) -> float:
    from distill.auto.budget import read_budget

    try:
        budget = read_budget(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if budget.seconds is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; expected such as 25m or 2h")
    return budget.seconds


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nclaims: stopped; the same command goes on", file=sys.stderr)
        sys.exit(130)
