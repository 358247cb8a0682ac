"""Runs the same distillation steps twice, from the same state, and compares every bit.

  python benchmarks/repeated_step.py --teacher=L/16 --student=B/16 --batch_size=64

A run that is killed ends bit for bit as one that is not only where a compiled step gives the same
twice. The fingerprint is of the last state: running this again shows whether a process that
compiles anew ends in the same. Exits with status 1 if anything differs.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# The code beside this file is what is run, whether or not a copy of it is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.arguments import file_to_write, positive_int
from benchmarks.machine import columns, environment, environment_rows, write_figures
from benchmarks.training_step import CompiledStep, add_job_flags, compile_step, placed_job
from distill.nn.fingerprint import fingerprint
from distill.terminal import accept_any_text
from distill.train.state import TrainState


def run(step: CompiledStep, start: TrainState, steps: int) -> TrainState:
    """The state so many steps after `start`, which is kept."""
    state = jax.tree.map(jnp.copy, start)
    for number in range(steps):
        batch = step.batches[number % len(step.batches)]
        state, _ = step.program(state, step.frozen, batch)
    return state


def differences(first: Any, second: Any) -> dict[str, int]:
    """How many values differ in a bit, by name, of the arrays that do; two trees alike."""
    pairs = zip(jax.tree.leaves_with_path(first), jax.tree.leaves(second), strict=True)
    counts = {jax.tree_util.keystr(path): _differing(a, b) for (path, a), b in pairs}
    return {name: count for name, count in counts.items() if count}


def _differing(a: jax.Array, b: jax.Array) -> int:
    # As bits: two NaNs of the same bits are the same, 0 and -0 are not.
    first, second = (np.asarray(x).reshape(-1, 1).view(np.uint8) for x in (a, b))
    return int(np.any(first != second, axis=1).sum())


def parser_of() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_job_flags(parser, ("teacher", "student"))
    parser.add_argument("--steps", type=positive_int, default=5, help="each time (%(default)s)")
    parser.add_argument("--json", type=file_to_write, metavar="FILE", help="also write it here")
    parser.set_defaults(mode="distill")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Runs, compares, prints.

    Raises:
      SystemExit: with status 2 for arguments that cannot be, 1 if the runs differ.
    """
    accept_any_text()
    parser = parser_of()
    args = parser.parse_args(argv)
    job, mesh = placed_job(parser, args)
    step = compile_step(job, args.optimizer, args.batch_size, mesh)

    start = step.start()
    first, second = (run(step, start, args.steps) for _ in range(2))
    differing = differences(first, second)
    found = {
        **environment(),
        "steps": args.steps,
        "arrays": len(jax.tree.leaves(first)),
        "differing": differing,
        "fingerprint": fingerprint({"params": first.params, "optimizer": first.opt_state}),
        "holds": not differing,
    }
    print(columns(rows(found)))
    write_figures(args.json, found)
    sys.exit(not found["holds"])


def rows(found: dict[str, Any]) -> dict[str, str]:
    """The comparison for a reader."""
    differing, arrays = found["differing"], found["arrays"]
    told = f"the same bits in all {arrays} arrays"
    if differing:
        worst = max(differing, key=differing.get)
        told = (
            f"{len(differing)} of {arrays} arrays differ, most in {worst}: "
            f"{differing[worst]:,} values"
        )
    return {
        **environment_rows(found),
        f"{found['steps']} steps, twice": told,
        "fingerprint": found["fingerprint"],
    }


if __name__ == "__main__":
    main()
