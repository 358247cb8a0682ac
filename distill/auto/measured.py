"""What a step of a run takes here, of memory and of time: compiled, and taken a few times."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from distill.data import Splits, TrainLoader
from distill.nn import VisionNetwork
from distill.parallel import batch_devices, local_rows, put_batch
from distill.runs.distillation import DistillConfig
from distill.runs.models import with_classes
from distill.runs.pretraining import PretrainConfig
from distill.runs.students import agree_on_classes, open_splits, view_size
from distill.runs.teachers import load_teachers, shown_as
from distill.tasks.classification import Classification
from distill.tasks.matching.function_matching import FunctionMatching, projected
from distill.tasks.matching.standardise import STATISTICS
from distill.train.memory import free_bytes, is_out_of_memory
from distill.train.run import RunConfig, open_mesh, plan
from distill.train.state import init_state
from distill.train.step import Learner, Task, compile_joint_step

# Of free memory, that a step may take: what else is held grows while it trains.
SHARE = 0.8
# So many steps are timed at most, for so many seconds.
_STEPS, _SECONDS = 8, 6.0


class Measured(NamedTuple):
    """What a step takes."""

    seconds: float
    """Of a step and its batch; 0 where it does not fit into memory."""
    needed: int
    """Bytes on each device, beside parameters, optimiser and batch."""
    free: int | None
    """Bytes that there are for that; None where devices do not say."""
    compiled: float
    """Seconds that the compiler took."""

    @property
    def too_large(self) -> float:
        """How many times what there is the step needs; at most 1 if it fits."""
        return 0.0 if self.free is None else self.needed / max(SHARE * self.free, 1)


@dataclasses.dataclass(frozen=True)
class Rig:
    """A run's parts, opened, of which steps of several sizes are compiled."""

    mesh: Mesh
    splits: Splits
    in_parts: bool
    """Whether a batch may be cut into microbatches."""
    _made: Callable[[RunConfig], tuple[RunConfig, VisionNetwork, Task, int]]
    """Of a config: that with what follows, the network, the task, and the side of views."""
    _frozen: Any

    @property
    def devices(self) -> int:
        """That share a batch."""
        return batch_devices(self.mesh)

    def measure(self, config: RunConfig) -> Measured:
        """Compiles the step of a config like the one that this was made of, and takes it."""
        config, network, task, size = self._made(config)
        planned = plan(config, network, self.splits)
        batch_size = config.train.batch_size
        loader = TrainLoader(
            self.splits.train,
            config.data,
            size=size,
            batch_size=batch_size,
            seed=config.seed,
            put=functools.partial(put_batch, self.mesh, size=batch_size),
            rows=local_rows(self.mesh, batch_size),
        )
        learner = Learner(task, planned.optimizer, planned.trained, config.optimizer.average_decay)
        with contextlib.closing(loader):
            averaged = config.optimizer.average_decay is not None
            states = {
                "student": init_state(network, planned.optimizer, config.seed, averaged=averaged)
            }
            batch, began = next(loader), time.perf_counter()
            step = compile_joint_step(
                {"student": learner},
                config.seed,
                states,
                self._frozen,
                batch,
                microbatches=config.train.microbatches,
            )
            compiled = time.perf_counter() - began
            device = self.mesh.local_devices[0]
            shared = len(self.mesh.local_devices) if device.platform == "cpu" else 1
            found = Measured(0.0, step.extra_bytes * shared, free_bytes(device), compiled)
            if found.too_large > 1:
                return found
            try:
                return found._replace(seconds=_timed(step, states, self._frozen, batch, loader))
            except jax.errors.JaxRuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                return found._replace(needed=max(found.needed, 2 * (found.free or 1)))


def _timed(step: Any, states: Any, frozen: Any, batch: Any, loader: Iterator[Any]) -> float:
    """The seconds of a step, with the batch that it waits for."""
    # The first step touches memory for the first time.
    states, metrics = step(states, frozen, batch)
    jax.block_until_ready(metrics)
    began, taken = time.perf_counter(), 0
    while taken < _STEPS and (not taken or time.perf_counter() - began < _SECONDS):
        states, metrics = step(states, frozen, next(loader))
        jax.block_until_ready(metrics)
        taken += 1
    return (time.perf_counter() - began) / taken


def open_rig(config: DistillConfig | PretrainConfig) -> Rig:
    """Opens the images and the teacher of a run.

    Raises:
      UserError: for whatever would stop the run itself.
    """
    return _of_student(config) if isinstance(config, DistillConfig) else _of_classifier(config)


def _of_classifier(config: PretrainConfig) -> Rig:
    mesh = open_mesh(config)
    splits = config.data.open_splits(channels=config.model.channels)
    splits.check_all_labelled("pre-training")

    def made(config: Any):
        config = with_classes(config.completed(), len(splits.class_names))
        network = config.model.network().placed(mesh, config.mesh.table)
        return config, network, Classification(network, config.loss), config.model.image_size

    return Rig(mesh, splits, True, made, None)


def _of_student(config: DistillConfig) -> Rig:
    config = config.with_text()
    mesh = open_mesh(config)
    splits = open_splits(config, config.models)
    config = config.with_classes(splits)
    network = config.models[0].network().placed(mesh, config.mesh.table)
    teachers, frozen = load_teachers(config.every_teacher, mesh)
    students = {"student": network}
    _, splits, teachers = agree_on_classes(config, students, splits, teachers, [config.start])

    def made(config: Any):
        config = shown_as(config.with_text().with_classes(splits), teachers)
        network = config.models[0].network().placed(mesh, config.mesh.table)
        size = view_size({"student": network}, teachers)
        network = projected(network, teachers, config.matching)
        labelled = bool(splits.train.class_names) and bool(network.config.num_classes)
        task = FunctionMatching(network, teachers, config.matching, labelled=labelled)
        return config, network, task, size

    task = made(config)[2]
    # Their values decide nothing of what a step takes.
    known = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), task.abstract_statistics)
    held = {**frozen, STATISTICS: known} if known else frozen
    return Rig(mesh, splits, task.mean_over_examples, made, held)
