"""Does to the project's commands what no user should, and counts what comes of it.

  python -m benchmarks.chaos --output=DIR [--trials=0.1 | --trials=kills=1000,images=3000]
      [--only=kills:17] [--seed=0] [--jobs=1] [--markdown] [--list]

Every trial is drawn from the seed, its class and its number, is made in a process that is forked
from this one, and is a line of DIR/trials.jsonl, so that the same command goes on where it was
ended. A trial is `clean` if what was promised came of it: the same result as without the fault, or
one message. What is not is `lost`, `hung`, a `traceback` or `silent`, keeps its directory in
DIR/trials, and has the command end with 1. Numbers of trials are the classes' own, a share of them,
or given by class; --only makes one again and keeps its directory. --markdown prints the table as
docs have it.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

# The code beside it, whether or not a copy of it is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from benchmarks.arguments import positive_float, positive_int
from benchmarks.chaos import environment
from distill.paths import path_argument
from distill.terminal import accept_any_text


def trials_argument(text: str) -> dict[str, int] | float:
    """A share of each class's own number, or numbers by class."""
    if "=" not in text:
        return positive_float(text)
    pairs = (pair.partition("=") for pair in text.split(","))
    return {name: positive_int(count) for name, _, count in pairs}


def only_argument(text: str) -> tuple[str, int]:
    """A trial by its class and number."""
    name, _, number = text.partition(":")
    if not number.isdecimal():
        raise argparse.ArgumentTypeError(f"must be CLASS:NUMBER, not {text!r}")
    return name, int(number)


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--output", type=path_argument, metavar="DIR")
    made.add_argument("--trials", type=trials_argument, default=1.0, metavar="SHARE|CLASS=N,…")
    made.add_argument("--only", type=only_argument, metavar="CLASS:NUMBER")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--jobs", type=positive_int, default=1)
    made.add_argument("--markdown", action="store_true", help="print the table as docs have it")
    made.add_argument("--list", action="store_true", help="say what classes there are, and end")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the trials; 1 if anything went wrong."""
    accept_any_text()
    arguments = parser()
    args = arguments.parse_args(argv)
    if not args.list and args.output is None:
        arguments.error("--output=DIR is missing")
    if args.output:
        environment.settle(args.output / "cache")
    from benchmarks.chaos import told
    from benchmarks.chaos.campaign import Campaign, faults
    from benchmarks.chaos.fault import CLEAN

    known = faults()
    if args.list:
        for one in known.values():
            print(f"{one.name}, {one.trials:,} trials: {one.tries}")
        return 0
    counts = (
        {name: max(round(args.trials * one.trials), 1) for name, one in known.items()}
        if (isinstance(args.trials, float))
        else args.trials
    )
    if args.only:
        counts = {args.only[0]: 1}
    if unknown := counts.keys() - known.keys():
        arguments.error(f"no class {min(unknown)}; there are {', '.join(known)}")
    campaign = Campaign(args.output, args.seed, keep=args.only is not None)
    made = {} if args.only else campaign.made()
    environment.load(any(known[name].commands for name in counts))
    asked = {}
    for name, count in counts.items():
        fault = known[name]
        if why := fault.missing():
            print(f"{name}: left out: {why}")
            continue
        numbers = [args.only[1]] if args.only else range(count)
        left = [number for number in numbers if f"{name}:{number}" not in made]
        if left:
            campaign.prepare(fault)
            asked[fault] = left
    # So that what has been begun is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    progress = told.Progress({fault: len(left) for fault, left in asked.items()})
    for one in campaign.run(asked, args.jobs):
        progress.came(one)
        made[one.name] = one
        if args.only:
            print(f"{one.name}: {one.came}: {one.tried}\n{one.told}")
    counted = [one for one in made.values() if one.fault in counts]
    print(told.markdown(counted) if args.markdown else told.plain(counted))
    return int(any(one.came != CLEAN for one in counted))


if __name__ == "__main__":
    sys.exit(main())
