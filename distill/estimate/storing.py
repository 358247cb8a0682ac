"""What it takes to store teachers' answers, and what training on them saves, before either is done.

Bytes are exact. How fast records are written was measured: one process of an AMD EPYC, by its CPU
time, took `RECORD_SECONDS` for each and `BYTE_SECONDS` for each of its bytes.
"""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from distill.data import Contents
from distill.data.batch_spec import STORED, Shaped, abstract_batch
from distill.errors import UserError
from distill.estimate.jobs import Jobs, make_jobs
from distill.estimate.machines import Machine
from distill.estimate.plan import Job, Plan, bytes_per_device, kept_bytes, plan_program
from distill.estimate.roofline import plan_asking
from distill.estimate.topology import Topology
from distill.estimate.towers import forward_flops, training_flops
from distill.parallel import batch_sharding
from distill.runs.storing import StoreTargetsConfig
from distill.tasks.matching.function_matching import FunctionMatching
from distill.tasks.matching.standardise import STATISTICS
from distill.tasks.matching.targets import TargetFormat, encode
from distill.train.run import blame
from distill.train.step import prepare

RECORD_SECONDS = 2.2e-6
BYTE_SECONDS = 1.75e-9
ENVELOPE = 60
"""Bytes that a file has for each record beside it; measured, and a few more for large ones."""


@dataclasses.dataclass(frozen=True)
class StoringPlan:
    """What storing takes on a machine, and what trainings do."""

    asking: Plan
    """Of a batch: the teachers' forward pass, and what is made of it to be stored."""
    replaying: Plan
    """Of a step on what is stored."""
    live: Plan
    """Of a step that asks the teachers."""
    arrays: dict[str, tuple[str, tuple[int, ...]]]
    """Dtypes and shapes of a view, by name."""
    record_bytes: int
    batches: int
    steps: int
    """Of a training."""
    batch_size: int

    @property
    def views(self) -> int:
        """Stored, each a record."""
        return self.batches * self.batch_size

    @property
    def stored_bytes(self) -> int:
        """Of all files."""
        return self.views * (self.record_bytes + ENVELOPE)

    @property
    def asking_seconds(self) -> float | None:
        """Of all batches on the machine; None where one does not fit."""
        return self.asking.cost and self.asking.cost.seconds * self.batches

    @property
    def writing_seconds(self) -> float:
        """Of the one process that writes, which does so while the machine computes."""
        return self.views * (RECORD_SECONDS + BYTE_SECONDS * self.record_bytes)

    @property
    def storing_seconds(self) -> float | None:
        """The longer of both."""
        return self.asking_seconds and max(self.asking_seconds, self.writing_seconds)

    def training_seconds(self, plan: Plan) -> float | None:
        """Of a training, given the plan of its step; None where that does not fit."""
        return plan.cost and plan.cost.seconds * self.steps


def plan_storing(
    config: StoreTargetsConfig, machine: Machine, steps: int, train_images: int
) -> StoringPlan:
    """Plans `distill store_targets`, and trainings with and without what it stores.

    Args:
      config: of the command.
      machine: what it runs on.
      steps: of a training.
      train_images: how many there are.

    Raises:
      UserError: if the config is of a pair's training, or asks no teacher anything.
    """
    jobs = make_jobs(config, machine, steps, train_images)
    arrays = _arrays(jobs.job, config.store)
    batch_size = config.train.batch_size
    contents = Contents(
        examples=batch_size, batch_size=batch_size, examples_per_file=batch_size, arrays=arrays
    )
    return StoringPlan(
        asking=_asking(jobs, config.store),
        replaying=jobs.changed(functools.partial(_replayed, arrays=arrays)).plan(),
        live=jobs.plan(),
        arrays=arrays,
        record_bytes=contents.record.itemsize,
        batches=config.batches(train_images),
        steps=steps,
        batch_size=batch_size,
    )


def _task(job: Job) -> FunctionMatching:
    if not isinstance(job.task, FunctionMatching):
        raise UserError("storing is planned of a distillation; give its config")
    return job.task


def _ask(job: Job, form: TargetFormat) -> Any:
    """What is stored of a batch, as a function of the teachers' parameters and the batch."""
    task = _task(job)

    def ask(frozen: Any, batch: Any) -> dict[str, jax.Array]:
        return encode(prepare(task, 0, 0, frozen, batch).teachers, form)

    return ask


def _arrays(job: Job, form: TargetFormat) -> dict[str, tuple[str, tuple[int, ...]]]:
    batch = abstract_batch(job.examples, job.batch_size)
    with blame("config.store"):
        found = jax.eval_shape(_ask(job, form), job.frozen, batch)
        if not found:
            raise ValueError("config.matching.losses compares nothing with a teacher")
    return {name: (one.dtype.name, one.shape[1:]) for name, one in found.items()}


def _asking(jobs: Jobs, form: TargetFormat) -> Plan:
    task = _task(jobs.job)
    networks = [teacher.network for teacher in task.teachers.values()]
    texts = task.config.losses.needs_captions
    flops = sum(forward_flops(network, texts) for network in networks)
    jobs = jobs.changed(lambda job: dataclasses.replace(job, flops=flops))
    job = jobs.job
    if not isinstance(jobs.machine, Topology):
        assert jobs.local is not None
        ask = _ask(jobs.local, form)
        return plan_asking(ask, job, jobs.local, jobs.machine, jobs.mesh)
    batch = abstract_batch(job.examples, job.batch_size, batch_sharding(jobs.mesh))
    lowered = jax.jit(_ask(job, form)).lower(job.frozen, batch)
    sizes = kept_bytes(job.state, job.frozen) | {"parameters": 0, "optimizer": 0}
    held = sizes["teacher"] + bytes_per_device(batch)
    return plan_program(lowered, jobs.machine, jobs.mesh, sizes, held, job)


def _replayed(job: Job, arrays: dict[str, tuple[str, tuple[int, ...]]]) -> Job:
    """A training that reads what teachers said in place of asking them."""
    task = dataclasses.replace(_task(job), stored=STORED)
    stored = {
        STORED + name: Shaped(shape, np.dtype(kind)) for name, (kind, shape) in arrays.items()
    }
    return dataclasses.replace(
        job,
        task=task,
        examples={**job.examples, **stored},
        frozen={name: one for name, one in job.frozen.items() if name == STATISTICS},
        flops=training_flops(job.network, job.trained, task.config.losses.needs_captions),
    )
