r"""Times the training step on whatever devices are there, and says how well it uses them.

  python benchmarks/step_time.py pretrain --model=L/16 --batch_size=256
  python benchmarks/step_time.py distill --teacher=L/16 --student=B/16 --batch_size=256

The step is the one that training runs: `distill.train.step` with the pipelines' tasks and
optimisers, compiled ahead of time, its state donated. Images are random, uint8 and on the device
already: loading and decoding are not part of any figure here. It needs jax, flax, optax and numpy
and no installation of this repository. docs/performance.md explains the figures.
"""

import argparse
import collections
import dataclasses
import importlib.metadata
import itertools
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

# The code beside this file is what is timed, whether or not a copy of it is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from distill.matching.config import MatchingConfig
from distill.matching.distillation import FunctionMatching, Teacher
from distill.nn import Network, Params, count_flops
from distill.optim import OptimizerConfig, ScheduleConfig, make_optimizer, make_schedule
from distill.parallel import MeshConfig, batch_devices, chip_of, make_mesh
from distill.parallel.mesh import batch_sharding
from distill.paths import path_argument
from distill.terminal import accept_any_text
from distill.train.classification import Classification, ClassificationConfig
from distill.train.state import TrainState, init_state
from distill.train.step import Learner, Step, Task, make_train_step
from students import vit
from teachers import vit_22b, vit_g

FAMILIES = {"vit": vit, "vit_g": vit_g, "vit_22b": vit_22b}
SHAPE_FLAGS = ("width", "depth", "mlp_dim", "heads")

# As in `distill.train.loop`: enough to keep the device busy while the host prepares the next.
IN_FLIGHT = 2
# Enough that no step finds the images of the one before in a cache.
BATCHES = 4
PROFILED_STEPS = 3
SEED = 0
# What the only teacher is called.
TEACHER = "teacher"


@dataclasses.dataclass(frozen=True)
class Job:
    """What is trained, and on what."""

    task: Task
    network: Network
    """The one that learns."""
    teacher: Network | None

    @property
    def flops_per_image(self) -> int:
        """Of the matrix products that a step needs, as MFU counts them.

        Three forward passes, as the backward pass costs two, and the teacher's one. What
        rematerialisation computes again is not counted.
        """
        teacher = forward_flops(self.teacher) if self.teacher else 0
        return 3 * forward_flops(self.network) + teacher


@dataclasses.dataclass(frozen=True)
class Measured:
    """What running the step showed."""

    compile_seconds: float
    step_seconds: np.ndarray
    """Between one step's completion and the next's, one per timed step."""
    peak_memory_bytes: int
    """Of the fullest device."""
    peak_memory_source: str
    loss: float
    """After the last step; not finite if the step computes nonsense."""


def forward_flops(network: Network) -> int:
    """Operations in the matrix products of one image's forward pass.

    A kernel's products are its own affair; those of the plain one can be counted.
    """
    network = network.with_attention("plain")
    image = jax.ShapeDtypeStruct((1, *network.config.image_shape), jnp.float32)
    return count_flops(network.apply, network.abstract_params, image).matrix


def network_of(name: str, choices: dict[str, Any]) -> Network:
    """The network of "B/16" or "vit:B/16", with `choices` overriding the variant's fields.

    Raises:
      ValueError: for a family or variant that does not exist, or choices that contradict each
        other.
    """
    family, colon, variant = name.rpartition(":")
    if not colon:
        shape = variant.partition("/")[0]
        family = next((f for f, module in FAMILIES.items() if shape in module.SHAPES), None)
    if family not in FAMILIES:
        known = "; ".join(f"{f}: {', '.join(m.SHAPES)}" for f, m in FAMILIES.items())
        raise ValueError(
            f"unknown model {name!r}; expected a shape and a patch size, such as L/16, or "
            f"family:shape/patch, from {known}"
        )
    module = FAMILIES[family]
    return module.build(module.configure(variant, **choices))


def job_of(args: argparse.Namespace, mesh: jax.sharding.Mesh) -> Job:
    """What the command line asks for, placed on a mesh.

    Raises:
      ValueError: for models that do not exist or contradict themselves.
    """
    common = dict(
        image_size=args.image_size,
        num_classes=args.num_classes,
        dtype=args.dtype,
        attention=args.attention,
    )
    execution = dict(remat=args.remat, unroll=args.unroll)

    def network(role: str, prefix: str, **choices) -> Network:
        shape = {flag: getattr(args, prefix + flag) for flag in SHAPE_FLAGS}
        choices |= common | {flag: size for flag, size in shape.items() if size is not None}
        return network_of(getattr(args, role), choices).placed(mesh)

    if args.mode == "pretrain":
        model = network("model", "", **execution)
        return Job(Classification(model, ClassificationConfig()), model, None)
    student = network("student", "student_", **execution)
    teacher = network("teacher", "teacher_", unroll=args.unroll)
    task = FunctionMatching(student, {TEACHER: Teacher(teacher)}, MatchingConfig())
    return Job(task, student, teacher)


def optimizer_of(name: str, network: Network) -> optax.GradientTransformation:
    """As the configs have it, with a rate so low that random labels cannot make it diverge."""
    config = OptimizerConfig(name=name, learning_rate=1e-6, weight_decay=(("kernel$", 1e-6),))
    schedule = make_schedule(ScheduleConfig(kind="constant", warmup_steps=0), total_steps=1)
    return make_optimizer(config, schedule, network.abstract_params, network.axes)


def teacher_params(teacher: Network) -> Params:
    """Random parameters in the compute dtype, as a pipeline with `teacher.dtype` loads them."""

    def draw(key):
        params = teacher.init(key)
        # A classifier starts at zero; a teacher without an opinion would make every gradient
        # exactly zero, and products of zeros draw less power and so can run faster.
        kernel = params["classifier"]["kernel"]
        params["classifier"]["kernel"] = 0.1 * jax.random.normal(key, kernel.shape)
        return optax.tree.cast(params, teacher.config.compute_dtype)

    return jax.jit(draw, out_shardings=teacher.shardings)(jax.random.key(SEED))


def random_batches(
    mesh: jax.sharding.Mesh, batch_size: int, image_size: int, classes: int
) -> list[dict[str, jax.Array]]:
    """Images and labels, drawn where they will be used."""

    def draw(key):
        images, labels = jax.random.split(key)
        return {
            "image": jax.random.bits(images, (batch_size, image_size, image_size, 3), jnp.uint8),
            "label": jax.random.randint(labels, (batch_size,), 0, classes),
        }

    draw = jax.jit(draw, out_shardings=batch_sharding(mesh))
    return [draw(jax.random.key(number)) for number in range(BATCHES)]


def run_steps(
    step: Step, state: TrainState, frozen: Params | None, batches: Sequence, count: int
) -> tuple[TrainState, dict[str, jax.Array], list[float]]:
    """Runs steps; returns the state, the last metrics and when each of `count` was complete.

    The host runs ahead of the device as it does in training, so that the time between two
    completions is what a step takes, without the latency of handing it out. Steps to run ahead
    with follow the `count` asked for: without them the last completions would be seen in a bunch
    where a step runs while it is handed out, as on some backends.
    """
    running, completed = collections.deque(), []
    for batch in itertools.islice(itertools.cycle(batches), count + IN_FLIGHT):
        state, metrics = step(state, frozen, batch)
        running.append(metrics)
        if len(running) > IN_FLIGHT:
            jax.block_until_ready(running.popleft())
            completed.append(time.perf_counter())
    return state, jax.block_until_ready(metrics), completed


def measure(args: argparse.Namespace, job: Job, mesh: jax.sharding.Mesh) -> Measured:
    """Compiles the step, warms it up, times it, and profiles a few more steps if asked to."""
    optimizer = optimizer_of(args.optimizer, job.network)
    state = init_state(job.network, optimizer, SEED)
    frozen = {TEACHER: teacher_params(job.teacher)} if job.teacher else None
    batches = random_batches(mesh, args.batch_size, args.image_size, args.num_classes)
    placement = jax.tree.map(lambda leaf: leaf.sharding, state)
    step = make_train_step(Learner(job.task, optimizer), SEED, placement)

    began = time.perf_counter()
    compiled = step.lower(state, frozen, batches[0]).compile()
    compile_seconds = time.perf_counter() - began

    # Warm-up and timed steps run without a break: the first timed one starts behind a full queue.
    state, metrics, completed = run_steps(
        compiled, state, frozen, batches, args.warmup + args.steps
    )
    peak, source = peak_memory(compiled)
    if args.profile:
        with jax.profiler.trace(args.profile):
            run_steps(compiled, state, frozen, batches, PROFILED_STEPS)
    return Measured(
        compile_seconds=compile_seconds,
        step_seconds=np.diff(completed)[-args.steps :],
        peak_memory_bytes=peak,
        peak_memory_source=source,
        loss=float(metrics["loss"]),
    )


def peak_memory(compiled: jax.stages.Compiled) -> tuple[int, str]:
    """The most bytes in use on one device, and how that is known."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    if all("peak_bytes_in_use" in s for s in stats):
        return max(s["peak_bytes_in_use"] for s in stats), "allocator, since the process started"
    plan = compiled.memory_analysis()
    reused = plan.alias_size_in_bytes
    used = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
    return used - reused, "compiler's plan for the step"


def nvidia_driver() -> str | None:
    """NVIDIA's driver version, or None where its tool is not there or finds no driver."""
    if not shutil.which("nvidia-smi"):
        return None
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, encoding="utf-8", check=False)
    return done.stdout.split("\n")[0].strip() if done.returncode == 0 else None


def environment() -> dict[str, Any]:
    """What a figure depends on besides the command line."""
    device = jax.devices()[0]
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "device_kind": device.device_kind,
        "device_count": jax.device_count(),
        # Such as "PJRT C API cuda 12090": CUDA's or libtpu's version.
        "runtime": " ".join(device.client.platform_version.split()),
        "driver": nvidia_driver() if device.platform == "gpu" else None,
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


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
        "device": f"{f['device_count']} × {f['device_kind']}",
        "runtime": f["runtime"] + (f", driver {f['driver']}" if f["driver"] else ""),
        "versions": ", ".join(f"{k} {v}" for k, v in f["versions"].items()),
        "XLA_FLAGS": f["xla_flags"] or "none",
        "step time": f"{ms['median']} ms, median of {f['steps']} steps",
        "spread": f"{ms['lower_quartile']} to {ms['upper_quartile']} ms (middle half), "
        f"{ms['min']} to {ms['max']} ms (all)",
        "images/s": f"{f['images_per_second']:,.1f}, without loading data",
        "MFU": mfu,
        "peak memory": f"{f['peak_memory_bytes'] / 2**30:,.3f} GiB per device "
        f"({f['peak_memory_source']})",
        "compile time": f"{f['compile_seconds']:,.1f} s",
        "last loss": f"{f['loss']:.4f}",
    }
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def positive_int(text: str) -> int:
    """An argument that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def positive_float(text: str) -> float:
    """An argument that measures something."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text!r}")
    return value


def parser_of() -> argparse.ArgumentParser:
    """The command line."""
    formats = dict(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
        allow_abbrev=False,
    )
    parser = argparse.ArgumentParser(**formats)
    modes = parser.add_subparsers(dest="mode", required=True, metavar="{pretrain,distill}")
    pretrain = modes.add_parser("pretrain", help="train a model on labels", **formats)
    distill = modes.add_parser("distill", help="match a student to a teacher", **formats)
    shapes = "; ".join(f"{f}: {', '.join(m.SHAPES)}" for f, m in FAMILIES.items())
    name_help = f"a shape and a patch size, such as L/16, or family:shape/patch ({shapes})"
    for mode, roles in ((pretrain, ("model",)), (distill, ("teacher", "student"))):
        for role in roles:
            mode.add_argument(f"--{role}", required=True, metavar="NAME", help=name_help)
        _add_common_flags(mode)
        sizes = mode.add_argument_group("sizes that differ from the name's, for small runs")
        for role in roles:
            prefix = "" if role == "model" else f"{role}_"
            for flag in SHAPE_FLAGS:
                sizes.add_argument(f"--{prefix}{flag}", type=positive_int, metavar="N")
    return parser


def _add_common_flags(mode: argparse.ArgumentParser) -> None:
    add = mode.add_argument
    add("--batch_size", type=positive_int, required=True, help="images per step, on all devices")
    add("--image_size", type=positive_int, default=224, help="in pixels (%(default)s)")
    add("--num_classes", type=positive_int, default=1000, help="of the classifiers (%(default)s)")
    add(
        "--dtype",
        choices=("bfloat16", "float32"),
        default="bfloat16",
        help="of activations, and of a teacher's parameters (%(default)s)",
    )
    add(
        "--remat",
        choices=("none", "full", "dots"),
        default="none",
        help="what the backward pass computes again (%(default)s)",
    )
    add(
        "--attention",
        choices=("auto", "plain", "cudnn", "splash"),
        default="auto",
        help="its kernel, see distill/nn/kernels.py (%(default)s)",
    )
    add("--unroll", action="store_true", help="layers as straight-line code instead of a scan")
    add(
        "--optimizer",
        choices=("adafactor", "adam"),
        default="adafactor",
        help="moments as in distill.optim (%(default)s)",
    )
    add(
        "--fsdp",
        type=positive_int,
        default=1,
        help="devices that share one copy of the parameters (%(default)s)",
    )
    add(
        "--tensor",
        type=positive_int,
        default=1,
        help="devices that share one matrix product (%(default)s)",
    )
    add("--warmup", type=positive_int, default=3, help="steps before timing (%(default)s)")
    add("--steps", type=positive_int, default=20, help="steps to time (%(default)s)")
    add(
        "--peak_tflops",
        type=positive_float,
        metavar="T",
        help="one device's peak in dense products of --dtype, in TFLOP/s; without it, the "
        "vendor's bfloat16 figure where the device is known",
    )
    add("--json", type=path_argument, metavar="FILE", help="also write the figures here")
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
    try:
        mesh = make_mesh(MeshConfig(fsdp=args.fsdp, tensor=args.tensor))
        job = job_of(args, mesh)
    except ValueError as error:
        parser.error(str(error))
    parts = batch_devices(mesh)
    if args.batch_size % parts:
        parser.error(f"--batch_size={args.batch_size} does not divide over {parts} devices")
    if args.json and not args.json.parent.is_dir():
        parser.error(f"--json: there is no folder {args.json.parent}")

    measured = measure(args, job, mesh)
    if not math.isfinite(measured.loss):
        sys.exit(f"the loss is {measured.loss}: the step is wrong, and its time means nothing")
    found = figures(args, job, measured)
    print(table(found))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
