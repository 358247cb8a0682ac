"""The programs that `step_ratio.py` compares: this project's step, and the reference's."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.reference_step import (
    Reference,
    ReferenceViT,
    reference_batch,
    reference_optimizer,
    reference_params,
)
from benchmarks.training_step import (
    DECAY,
    RATE,
    SEED,
    SHAPE_FLAGS,
    TEACHER,
    Job,
    compile_step,
    network_of,
    random_batches,
    teacher_params,
)
from distill.nn import VisionNetwork
from distill.parallel import MeshConfig, make_mesh
from distill.subject import Teacher
from distill.tasks.classification import Classification, ClassificationConfig
from distill.tasks.matching.config import MatchingConfig
from distill.tasks.matching.function_matching import FunctionMatching

MODELS = {"pretrain": "S/16", "distill": "Ti/16"}
TEACHER_MODEL = "S/16"

Program = tuple[Callable[[], None], dict[str, Any]]


def jax_steps(args: argparse.Namespace, programs: Sequence[str]) -> dict[str, Program]:
    """Steps of `ours` and `reference`, each with its figures, by name."""
    mesh = make_mesh(MeshConfig(), jax.devices("cpu")[:1])
    job = ratio_job(args, mesh)
    build = {"ours": _ours, "reference": _reference}
    return {name: build[name](args, job, mesh) for name in programs}


def ratio_job(args: argparse.Namespace, mesh: jax.sharding.Mesh) -> Job:
    """This project's models and task."""
    sizes = {flag: getattr(args, flag) for flag in SHAPE_FLAGS}
    choices: dict[str, Any] = {flag: size for flag, size in sizes.items() if size is not None}
    choices |= dict(
        image_size=args.image_size,
        num_classes=args.num_classes,
        head=args.head,
        dtype=args.dtype,
        unroll=args.layer == "unrolled",
    )

    def network(name: str, remat: str) -> VisionNetwork:
        return network_of(name, choices | dict(remat=remat)).placed(mesh)

    student = network(MODELS[args.task], args.remat)
    if args.task == "pretrain":
        return Job(Classification(student, ClassificationConfig(kind=args.loss)), student, None)
    teacher = network(TEACHER_MODEL, "none")
    task = FunctionMatching(student, {TEACHER: Teacher(teacher)}, MatchingConfig())
    return Job(task, student, teacher)


def _ours(args: argparse.Namespace, job: Job, mesh: jax.sharding.Mesh) -> Program:
    step = compile_step(job, args.optimizer, args.batch_size, mesh)
    state, done = step.start(), 0

    def run() -> None:
        nonlocal state, done
        batch = step.batches[done % len(step.batches)]
        state, metrics = step.program(state, step.frozen, batch)
        jax.block_until_ready((state, metrics))
        done += 1

    return run, _figures(step.program)


def _reference(args: argparse.Namespace, job: Job, mesh: jax.sharding.Mesh) -> Program:
    scanned = args.layer == "scanned"
    config = job.network.config
    # Copies, as the state is donated.
    ours = jax.jit(job.network.init)(jax.random.key(SEED))
    params = jax.tree.map(jnp.copy, reference_params(ours, config, scanned))
    student = ReferenceViT(config, scanned, args.remat)
    teacher = frozen = None
    if job.teacher:
        teacher = ReferenceViT(job.teacher.config, scanned)
        drawn = teacher_params(job.teacher)
        frozen = jax.tree.map(jnp.copy, reference_params(drawn, job.teacher.config, scanned))
    optimizer = reference_optimizer(args.optimizer, RATE, DECAY)
    reference = Reference(student, teacher, optimizer, args.loss)
    batches = [
        reference_batch(batch, args.num_classes)
        for batch in random_batches(mesh, args.batch_size, args.image_size, args.num_classes)
    ]
    state: Any = {"params": params, "opt": optimizer.init(params), "step": jnp.int32(0)}
    program = jax.jit(reference.step(), donate_argnums=0).lower(state, frozen, batches[0]).compile()
    done = 0

    def run() -> None:
        nonlocal state, done
        state, figures = program(state, frozen, batches[done % len(batches)])
        jax.block_until_ready((state, figures))
        done += 1

    return run, _figures(program)


def _figures(program: jax.stages.Compiled) -> dict[str, Any]:
    plan = program.memory_analysis()
    return {"temporary_bytes": 0 if plan is None else plan.temp_size_in_bytes}
