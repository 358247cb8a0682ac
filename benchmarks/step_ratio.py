"""The training step on one CPU device beside its reference's: CPU time and memory, in turns.

  python benchmarks/step_ratio.py [--tasks=pretrain,distill] [--dtypes=float32,bfloat16]
      [--layers=unrolled,scanned] [--rounds=7] [--batch_size=8] [--json=FILE]

S/16 on labels, and S/16 → Ti/16 by function matching, as `step_time.py` has them, beside the same
models, losses and optimisers of flax.linen's and optax's own modules (`reference_step.py`). Each
row is three processes, whose programs take turns, a step at a time:

  ours, kept       this project's step; freed memory is kept, as training commands do
  reference, kept  the reference's in the same process, by the same settings of malloc
  reference        the reference's in a process of its own, with malloc as it is
  timm             PyTorch's, torch.compile on timm's model with fused AdamW, where both are there

CPU time is user and system, of all threads, the median of the rounds; a ratio is the median of the
rounds' own ratios. Temporaries are what the compiler plans. Layers that are scanned are compared
with such, unrolled ones with unrolled ones. What runs elsewhere on the machine slows all of them,
but not by the same factor: leave it alone.
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

# The code beside this file is what is timed, whether or not a copy of it is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.arguments import file_to_write, positive_int
from benchmarks.training_step import SHAPE_FLAGS
from distill.terminal import accept_any_text, text_table

TASKS, DTYPES, LAYERS = ("pretrain", "distill"), ("float32", "bfloat16"), ("unrolled", "scanned")
# Of processes: the programs of each, and whether it keeps freed memory.
PROCESSES = {
    "kept": (("ours", "reference"), True),
    "stock": (("reference",), False),
    "torch": (("timm",), False),
}
OURS, KEPT, STOCK, TIMM = "ours, kept", "reference, kept", "reference", "timm"
NAMES = {
    ("kept", "ours"): OURS,
    ("kept", "reference"): KEPT,
    ("stock", "reference"): STOCK,
    ("torch", "timm"): TIMM,
}
WARMUP = 1

Step = Callable[[], None]


def serve(args: argparse.Namespace) -> None:
    """A process that runs a step of a program for each line that asks for it by name."""
    programs, keeps = PROCESSES[args.serve]
    if keeps:
        # Before anything else has taken memory.
        from distill.command.allocator import keep_freed_memory

        if not keep_freed_memory():
            say({"skipped": "freed memory cannot be kept here"})
            return
    try:
        if args.serve == "torch":
            from benchmarks.torch_step import timm_step

            built = {"timm": timm_step(args)}
        else:
            from benchmarks.ratio_programs import jax_steps

            built = jax_steps(args, programs)
    except ModuleNotFoundError as error:
        say({"skipped": f"{error.name} is not installed"})
        return
    except ValueError as error:
        say({"refused": str(error)})
        return
    for step, _ in built.values():
        for _ in range(WARMUP):
            step()
    say({"programs": {name: figures for name, (_, figures) in built.items()}})
    for line in sys.stdin:
        say(measure(built[line.strip()][0]))


def say(reply: dict[str, Any]) -> None:
    """A line for the process that asked."""
    print(json.dumps(reply), flush=True)


def measure(step: Step) -> dict[str, float]:
    """CPU seconds, of them the system's, minor page faults and seconds of a step."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    step()
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    system = after.ru_stime - before.ru_stime
    return {
        "cpu": after.ru_utime - before.ru_utime + system,
        "system": system,
        "faults": after.ru_minflt - before.ru_minflt,
        "seconds": seconds,
        "resident_bytes": after.ru_maxrss * 1024,
    }


@contextlib.contextmanager
def started(command: Sequence[str]) -> Iterator[subprocess.Popen]:
    """A process that serves, ended at the end."""
    process = subprocess.Popen(
        [sys.executable, __file__, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        # One CPU device, whatever else there is.
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def answer(process: subprocess.Popen) -> dict[str, Any]:
    """The next line of a process.

    Raises:
      RuntimeError: if it has ended; it has said why.
    """
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise RuntimeError("a process ended before its figures; its error is above")
    return json.loads(line)


def row(args: argparse.Namespace, task: str, dtype: str, layers: str) -> dict[str, Any]:
    """The figures of one pair, by program.

    Raises:
      ValueError: for a model that contradicts itself.
    """
    base = [f"--{name}={value}" for name, value in forwarded(args).items()]
    base += [f"--task={task}", f"--dtype={dtype}", f"--layer={layers}"]
    found: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        running: dict[str, tuple[subprocess.Popen, str]] = {}
        # One after another: compilers would slow each other down.
        for kind in PROCESSES:
            if kind == "torch" and not args.torch:
                continue
            process = stack.enter_context(started([*base, f"--serve={kind}"]))
            hello = answer(process)
            if "refused" in hello:
                raise ValueError(hello["refused"])
            if "skipped" in hello:
                print(f"{kind}: skipped, {hello['skipped']}", file=sys.stderr)
                continue
            for program, figures in hello["programs"].items():
                running[NAMES[kind, program]] = process, program
                found[NAMES[kind, program]] = figures | {"rounds": []}
        for _ in range(args.rounds):
            for name, (process, program) in running.items():
                assert process.stdin is not None
                process.stdin.write(program + "\n")
                process.stdin.flush()
                found[name]["rounds"].append(answer(process))
    for figures in found.values():
        for name in ("cpu", "system", "faults", "seconds", "resident_bytes"):
            figures[name] = statistics.median(one[name] for one in figures["rounds"])
    return {"task": task, "dtype": dtype, "layers": layers, "programs": found} | ratios(found)


def ratios(found: dict[str, Any]) -> dict[str, float | None]:
    """Ours over each of the others."""

    def time_ratio(name: str) -> float | None:
        if name not in found or OURS not in found:
            return None
        pairs = zip(found[OURS]["rounds"], found[name]["rounds"], strict=True)
        return statistics.median(ours["cpu"] / theirs["cpu"] for ours, theirs in pairs)

    memory = None
    if OURS in found and KEPT in found:
        memory = found[OURS]["temporary_bytes"] / found[KEPT]["temporary_bytes"]
    return {
        "time_same_settings": time_ratio(KEPT),
        "time_against_stock": time_ratio(STOCK),
        "time_against_timm": time_ratio(TIMM),
        "temporaries": memory,
    }


def forwarded(args: argparse.Namespace) -> dict[str, Any]:
    """What processes are told of the command line."""
    names = ("batch_size", "image_size", "num_classes", "head", "loss", "optimizer", "remat")
    values = {name: getattr(args, name) for name in (*names, *SHAPE_FLAGS)}
    return {name: value for name, value in values.items() if value is not None}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The figures for a reader."""

    def shown(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    lines = []
    for one in rows:
        programs = one["programs"]
        # Milliseconds of each, and MiB of the first two.
        times = [shown(programs.get(n, {}).get("cpu", None), ".2f") for n in NAMES.values()]
        memory = [
            shown(programs[n]["temporary_bytes"] / 2**20 if n in programs else None, ".0f")
            for n in (OURS, KEPT)
        ]
        found = [
            shown(one[name], ".3f")
            for name in ("time_same_settings", "time_against_stock", "time_against_timm")
        ]
        lines.append(
            (
                *(one[name] for name in ("task", "dtype", "layers")),
                *times,
                *found,
                *memory,
                shown(one["temporaries"], ".2f"),
            )
        )
    head = ("task", "dtype", "layers", *(f"{name} s" for name in NAMES.values()))
    head += ("× same settings", "× stock", "× timm", "ours MiB", "reference MiB", "× memory")
    return text_table(head, lines)


def _choices(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        given = tuple(text.split(","))
        if not set(given) <= set(known):
            raise argparse.ArgumentTypeError(f"expected some of {','.join(known)}, not {text!r}")
        return given

    return read


def parser_of() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--tasks", type=_choices(TASKS), default=TASKS, help="some of pretrain,distill")
    add("--dtypes", type=_choices(DTYPES), default=DTYPES, help="some of float32,bfloat16")
    add("--layers", type=_choices(LAYERS), default=LAYERS, help="some of unrolled,scanned")
    add("--rounds", type=positive_int, default=7, help="steps of each program (%(default)s)")
    add("--batch_size", type=positive_int, default=8, help="images per step (%(default)s)")
    add("--image_size", type=positive_int, default=224, help="in pixels (%(default)s)")
    add("--num_classes", type=positive_int, default=1000, help="of classifiers (%(default)s)")
    add("--head", choices=("map", "gap"), default="map", help="of all models (%(default)s)")
    add("--loss", choices=("sigmoid", "softmax"), default="sigmoid", help="of labels")
    add("--optimizer", choices=("adafactor", "adam"), default="adafactor", help="(%(default)s)")
    add("--remat", choices=("none", "dots", "full"), default="none", help="of both (%(default)s)")
    add("--no_torch", dest="torch", action="store_false", help="leave PyTorch out")
    add("--json", type=file_to_write, metavar="FILE", help="also write the figures here")
    for flag in SHAPE_FLAGS:
        add(f"--{flag}", type=positive_int, metavar="N", help="of all models, for small runs")
    # How a process is told what to serve.
    add("--serve", choices=tuple(PROCESSES), help=argparse.SUPPRESS)
    add("--task", choices=TASKS, help=argparse.SUPPRESS)
    add("--dtype", choices=DTYPES, help=argparse.SUPPRESS)
    add("--layer", choices=LAYERS, help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    accept_any_text()
    parser = parser_of()
    args = parser.parse_args(argv)
    if args.serve:
        serve(args)
        return
    rows = []
    for task in args.tasks:
        for dtype in args.dtypes:
            for layers in args.layers:
                try:
                    rows.append(row(args, task, dtype, layers))
                except ValueError as error:
                    parser.error(str(error))
                print(table(rows[-1:]), flush=True)
    if len(rows) > 1:
        print(f"\n{table(rows)}")
    if args.json:
        from benchmarks.machine import environment, write_figures

        write_figures(args.json, environment() | {"rows": rows})


if __name__ == "__main__":
    main()
