"""The training step as benchmarks run it: models, tasks and optimisers from a command line.

It needs jax, flax, optax and numpy. `step_time.py` beside it says what is measured and how.
"""

import argparse
import collections
import dataclasses
import itertools
import time
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from benchmarks.arguments import positive_int
from distill.config.schema import members_of
from distill.nn import Params, VisionNetwork, count_flops
from distill.nn.variants import VariantConfig
from distill.optim import OptimizerConfig, ScheduleConfig, make_optimizer, make_schedule
from distill.parallel import MeshConfig, batch_devices, make_mesh
from distill.parallel.compiling import compiled
from distill.parallel.mesh import batch_sharding
from distill.subject import Teacher
from distill.tasks.classification import Classification, ClassificationConfig
from distill.tasks.matching.config import MatchingConfig
from distill.tasks.matching.function_matching import FunctionMatching
from distill.train.state import TrainState, abstract_state, init_state
from distill.train.step import Learner, Task, make_train_step

FAMILIES = members_of(VariantConfig).labelled
SHAPE_FLAGS = ("width", "depth", "mlp_dim", "heads")

# As in `distill.train.loop`: enough to keep the device busy while the host prepares the next.
IN_FLIGHT = 2
# Enough that no step finds the images of the one before in a cache.
BATCHES = 4
SEED = 0
# So low that random labels cannot make a step diverge.
RATE, DECAY = 1e-6, 1e-6
# What the only teacher is called.
TEACHER = "teacher"


@dataclasses.dataclass(frozen=True)
class Job:
    """What is trained, and on what."""

    task: Task
    network: VisionNetwork
    """The one that learns."""
    teacher: VisionNetwork | None

    @property
    def flops_per_image(self) -> int:
        """Of the matrix products that a step needs, as MFU counts them.

        Three forward passes, as the backward pass costs two, and the teacher's one. What
        rematerialisation computes again is not counted.
        """
        teacher = forward_flops(self.teacher) if self.teacher else 0
        return 3 * forward_flops(self.network) + teacher


def forward_flops(network: VisionNetwork) -> int:
    """Operations in the matrix products of one image's forward pass.

    A kernel's products are its own affair; those of the plain one can be counted.
    """
    network = network.with_attention("plain")
    image = jax.ShapeDtypeStruct((1, *network.config.image_shape), jnp.float32)
    return count_flops(network.apply, network.abstract_params, image).matrix


def network_of(name: str, choices: dict[str, Any]) -> VisionNetwork:
    """The network of "B/16" or "vit:B/16", with `choices` overriding the variant's fields.

    Raises:
      ValueError: for a family or variant that does not exist, or choices that contradict each
        other.
    """
    family, colon, variant = name.rpartition(":")
    if not colon:
        shape = variant.partition("/")[0]
        family = next((f for f, config in FAMILIES.items() if shape in config.shapes), None)
    if family is None or family not in FAMILIES:
        known = "; ".join(f"{f}: {', '.join(c.shapes)}" for f, c in FAMILIES.items())
        raise ValueError(
            f"unknown model {name!r}; expected a shape and a patch size, such as L/16, or "
            f"family:shape/patch, from {known}"
        )
    return FAMILIES[family].of(variant, **choices).build()


def job_of(args: argparse.Namespace, mesh: jax.sharding.Mesh) -> Job:
    """What the command line asks for, placed on a mesh.

    Raises:
      ValueError: for models that do not exist or contradict themselves.
    """
    common: dict[str, Any] = dict(
        image_size=args.image_size,
        num_classes=args.num_classes,
        dtype=args.dtype,
        attention=args.attention,
    )
    execution = dict(remat=args.remat, unroll=args.unroll)

    def network(role: str, prefix: str, **choices) -> VisionNetwork:
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


def placed_job(
    parser: argparse.ArgumentParser, args: argparse.Namespace
) -> tuple[Job, jax.sharding.Mesh]:
    """`job_of` on the mesh that the command line asks for.

    Raises:
      SystemExit: with status 2 for arguments that cannot be.
    """
    try:
        mesh = make_mesh(MeshConfig(fsdp=args.fsdp, tensor=args.tensor))
        job = job_of(args, mesh)
    except ValueError as error:
        parser.error(str(error))
    parts = batch_devices(mesh)
    if args.batch_size % parts:
        parser.error(f"--batch_size={args.batch_size} does not divide over {parts} devices")
    return job, mesh


def optimizer_of(
    name: Literal["adafactor", "adam", "sgd"], network: VisionNetwork
) -> optax.GradientTransformation:
    """As the configs have it, with a rate so low that random labels cannot make it diverge."""
    config = OptimizerConfig(name=name, learning_rate=RATE, weight_decay=(("kernel$", DECAY),))
    schedule = make_schedule(ScheduleConfig(kind="constant", warmup_steps=0), total_steps=1)
    return make_optimizer(config, schedule, network.abstract_params, network.axes)


def teacher_params(teacher: VisionNetwork) -> Params:
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


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """A job's step, compiled ahead of time, and what it is called with."""

    job: Job
    optimizer: optax.GradientTransformation
    frozen: dict[str, Params] | None
    batches: list[dict[str, jax.Array]]
    program: jax.stages.Compiled
    compile_seconds: float

    def start(self) -> TrainState:
        """The state before the first step, always the same."""
        return init_state(self.job.network, self.optimizer, SEED)


def compile_step(
    job: Job,
    optimizer: Literal["adafactor", "adam", "sgd"],
    batch_size: int,
    mesh: jax.sharding.Mesh,
) -> CompiledStep:
    """The step that training compiles, for random images."""
    config = job.network.config
    transformation = optimizer_of(optimizer, job.network)
    frozen = {TEACHER: teacher_params(job.teacher)} if job.teacher else None
    batches = random_batches(mesh, batch_size, config.image_shape[0], config.num_classes)
    state = abstract_state(job.network, transformation)
    placement = jax.tree.map(lambda leaf: leaf.sharding, state)
    step = make_train_step(Learner(job.task, transformation), SEED, placement)
    began = time.perf_counter()
    program = compiled(step.lower(state, frozen, batches[0]), mesh)
    seconds = time.perf_counter() - began
    return CompiledStep(job, transformation, frozen, batches, program, seconds)


def run_steps(
    step: CompiledStep, state: TrainState, count: int
) -> tuple[TrainState, dict[str, jax.Array], list[float]]:
    """Runs steps; returns the state, the last metrics and when each of `count` was complete.

    The host runs ahead of the device as it does in training, so that the time between two
    completions is what a step takes, without the latency of handing it out. Steps to run ahead
    with follow the `count` asked for: without them the last completions would be seen in a bunch
    where a step runs while it is handed out, as on some backends.
    """
    running, completed = collections.deque(), []
    for batch in itertools.islice(itertools.cycle(step.batches), count + IN_FLIGHT):
        state, metrics = step.program(state, step.frozen, batch)
        running.append(metrics)
        if len(running) > IN_FLIGHT:
            jax.block_until_ready(running.popleft())
            completed.append(time.perf_counter())
    return state, jax.block_until_ready(metrics), completed


def planned_memory(program: jax.stages.Compiled) -> int:
    """Bytes on one device that the compiler plans for a call: arguments, results and in between."""
    plan = program.memory_analysis()
    assert plan is not None
    reused = plan.alias_size_in_bytes
    used = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
    return used - reused


def allocator_peak() -> int | None:
    """The most bytes in use on one device since the process started.

    None where the allocator does not count, as on CPUs. The peak is never reset.
    """
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    if all("peak_bytes_in_use" in s for s in stats):
        return max(s["peak_bytes_in_use"] for s in stats)
    return None


def add_job_flags(mode: argparse.ArgumentParser, roles: Sequence[str]) -> None:
    """What `job_of` reads, for models of these roles: `model`, or `teacher` and `student`."""
    shapes = "; ".join(f"{f}: {', '.join(c.shapes)}" for f, c in FAMILIES.items())
    name_help = f"a shape and a patch size, such as L/16, or family:shape/patch ({shapes})"
    for role in roles:
        mode.add_argument(f"--{role}", required=True, metavar="NAME", help=name_help)
    _add_common_flags(mode)
    sizes = mode.add_argument_group("sizes that differ from the name's, for small runs")
    for role in roles:
        prefix = "" if role == "model" else f"{role}_"
        for flag in SHAPE_FLAGS:
            sizes.add_argument(f"--{prefix}{flag}", type=positive_int, metavar="N")


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
