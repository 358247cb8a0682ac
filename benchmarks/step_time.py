r"""Times the training step on whatever devices are there, and says how well it uses them.

  python benchmarks/step_time.py pretrain --model=L/16 --batch_size=256
  python benchmarks/step_time.py distill --teacher=L/16 --student=B/16 --batch_size=256

The step is the one that training runs: `distill.train.step` with the pipelines' tasks and
optimisers, compiled ahead of time, its state donated. Images are random, uint8 and on the device
already: loading and decoding are not part of any figure here. It needs jax, flax, optax and numpy
and no installation of this repository. docs/performance.md explains the figures.
"""

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

# The code beside this file is what is timed, whether or not a copy of it is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.arguments import file_to_write, positive_float, positive_int
from benchmarks.machine import columns, environment, environment_rows, write_figures
from benchmarks.training_step import (
    Job,
    add_job_flags,
    allocator_peak,
    compile_step,
    placed_job,
    planned_memory,
    run_steps,
)
from distill.parallel import chip_of
from distill.paths import path_argument
from distill.terminal import accept_any_text

PROFILED_STEPS = 3
PLAN = "compiler's plan for the step"


@dataclasses.dataclass(frozen=True)
class Measured:
    """What running the step showed."""

    compile_seconds: float
    step_seconds: np.ndarray
    """Between one step's completion and the next's, one per timed step."""
    planned_memory_bytes: int
    """On one device, by the compiler, for one step."""
    peak_memory_bytes: int
    """Of the fullest device."""
    peak_memory_source: str
    loss: float
    """After the last step; not finite if the step computes nonsense."""


def measure(args: argparse.Namespace, job: Job, mesh: jax.sharding.Mesh) -> Measured:
    """Compiles the step, warms it up, times it, and profiles a few more steps if asked to."""
    step = compile_step(job, args.optimizer, args.batch_size, mesh)
    # Warm-up and timed steps run without a break: the first timed one starts behind a full queue.
    state, metrics, completed = run_steps(step, step.start(), args.warmup + args.steps)
    planned, peak = planned_memory(step.program), allocator_peak()
    if args.profile:
        with jax.profiler.trace(args.profile):
            run_steps(step, state, PROFILED_STEPS)
    return Measured(
        compile_seconds=step.compile_seconds,
        step_seconds=np.diff(completed)[-args.steps :],
        planned_memory_bytes=planned,
        peak_memory_bytes=planned if peak is None else peak,
        peak_memory_source=PLAN if peak is None else "allocator, since the process started",
        loss=float(metrics["loss"]),
    )


def figures(args: argparse.Namespace, job: Job, measured: Measured) -> dict[str, Any]:
    """Everything that is printed or written, by name; times in seconds."""
    where = environment()
    low, lower_quartile, median, upper_quartile, high = np.percentile(
        measured.step_seconds, [0, 25, 50, 75, 100]
    ).tolist()
    chip = chip_of(where["device_kind"])
    peak_flops = args.peak_tflops * 1e12 if args.peak_tflops else chip and chip.peak_flops
    flops = job.flops_per_image * args.batch_size
    return {
        "command": {k: v for k, v in vars(args).items() if k not in ("json", "profile")},
        **where,
        "parameters": job.network.parameter_count(),
        "teacher_parameters": job.teacher.parameter_count() if job.teacher else None,
        "batch_size": args.batch_size,
        "steps": args.steps,
        "step_seconds": {
            "median": median,
            "min": low,
            "lower_quartile": lower_quartile,
            "upper_quartile": upper_quartile,
            "max": high,
        },
        "images_per_second": args.batch_size / median,
        "flops_per_step": flops,
        "peak_flops_per_device": peak_flops,
        "mfu": flops / (median * peak_flops * where["device_count"]) if peak_flops else None,
        "planned_memory_bytes": measured.planned_memory_bytes,
        "peak_memory_bytes": measured.peak_memory_bytes,
        "peak_memory_source": measured.peak_memory_source,
        "compile_seconds": measured.compile_seconds,
        "loss": measured.loss,
    }


def table(f: dict[str, Any]) -> str:
    """The figures for a reader."""
    command = f["command"]
    ms = {name: f"{seconds * 1e3:,.2f}" for name, seconds in f["step_seconds"].items()}
    if command["mode"] == "pretrain":
        what = f"pretrain {command['model']} ({f['parameters'] / 1e6:,.4g} M parameters)"
    else:
        what = (
            f"distill {command['teacher']} ({f['teacher_parameters'] / 1e6:,.4g} M parameters) "
            f"→ {command['student']} ({f['parameters'] / 1e6:,.4g} M)"
        )
    settings = (
        "image_size",
        "dtype",
        "attention",
        "remat",
        "unroll",
        "optimizer",
        "fsdp",
        "tensor",
    )
    if f["mfu"] is None:
        mfu = f"unknown device {f['device_kind']!r}; give its peak with --peak_tflops"
    else:
        mfu = (
            f"{f['mfu']:.1%} of {f['peak_flops_per_device'] / 1e12:,.4g} TFLOP/s per device "
            f"({f['flops_per_step'] / 1e12:,.4g} TFLOP per step)"
        )
    rows = {
        "step": what,
        "settings": f"batch {f['batch_size']}, "
        + ", ".join(f"{name} {command[name]}" for name in settings),
        **environment_rows(f),
        "step time": f"{ms['median']} ms, median of {f['steps']} steps",
        "spread": f"{ms['lower_quartile']} to {ms['upper_quartile']} ms (middle half), "
        f"{ms['min']} to {ms['max']} ms (all)",
        "images/s": f"{f['images_per_second']:,.1f}, without loading data",
        "MFU": mfu,
        "peak memory": f"{f['peak_memory_bytes'] / 2**30:,.3f} GiB per device "
        f"({f['peak_memory_source']})",
        "planned memory": f"{f['planned_memory_bytes'] / 2**30:,.3f} GiB per device ({PLAN})",
        "compile time": f"{f['compile_seconds']:,.1f} s",
        "last loss": f"{f['loss']:.4f}",
    }
    return columns(rows)


def parser_of() -> argparse.ArgumentParser:
    """The command line."""
    formats: dict[str, Any] = dict(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
        allow_abbrev=False,
    )
    parser = argparse.ArgumentParser(**formats)
    modes = parser.add_subparsers(dest="mode", required=True, metavar="{pretrain,distill}")
    pretrain = modes.add_parser("pretrain", help="train a model on labels", **formats)
    distill = modes.add_parser("distill", help="match a student to a teacher", **formats)
    for mode, roles in ((pretrain, ("model",)), (distill, ("teacher", "student"))):
        add_job_flags(mode, roles)
        _add_timing_flags(mode)
    return parser


def _add_timing_flags(mode: argparse.ArgumentParser) -> None:
    add = mode.add_argument
    add("--warmup", type=positive_int, default=3, help="steps before timing (%(default)s)")
    add("--steps", type=positive_int, default=20, help="steps to time (%(default)s)")
    add(
        "--peak_tflops",
        type=positive_float,
        metavar="T",
        help="one device's peak in dense products of --dtype, in TFLOP/s; without it, the "
        "vendor's bfloat16 figure where the device is known",
    )
    add("--json", type=file_to_write, metavar="FILE", help="also write the figures here")
    add(
        "--profile",
        type=path_argument,
        metavar="DIR",
        help=f"afterwards, trace {PROFILED_STEPS} more steps for XProf or Perfetto",
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Parses, measures, prints.

    Raises:
      SystemExit: with status 2 for arguments that cannot be, 1 if the step computes nonsense.
    """
    accept_any_text()
    parser = parser_of()
    args = parser.parse_args(argv)
    job, mesh = placed_job(parser, args)

    measured = measure(args, job, mesh)
    if not math.isfinite(measured.loss):
        sys.exit(f"the loss is {measured.loss}: the step is wrong, and its time means nothing")
    found = figures(args, job, measured)
    print(table(found))
    write_figures(args.json, found)


if __name__ == "__main__":
    main()
