"""Compiles a real training step for a TPU slice that is not here, and reads off what it takes."""

import contextlib
import dataclasses
import math
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import optax
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh

from distill.data.batch_spec import Shaped, abstract_batch
from distill.errors import RunFailed
from distill.estimate import hlo
from distill.estimate.breakdown import Part, breakdown
from distill.estimate.cost import Cost, cost_of, spend
from distill.estimate.topology import Topology, coordinates
from distill.nn import Params, VisionNetwork
from distill.nn.execution import Execution
from distill.parallel import batch_sharding
from distill.parallel.compiling import compiled as compile_for
from distill.train.run import blame
from distill.train.signals import ended_at_once
from distill.train.state import TrainState, abstract_state
from distill.train.step import Learner, Task, make_train_step

GIB = 2**30

Method = Literal["schedule", "roofline"]
"""How a plan is made: from the program that a compiler has scheduled for the machine, or from
shapes, peaks and bandwidths alone."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A training step as a config describes it: no weights, no data."""

    network: VisionNetwork
    """What is trained, placed on the mesh."""
    task: Task
    optimizer: optax.GradientTransformation
    batch_size: int
    """Global."""
    microbatches: int = 1
    examples: Mapping[str, Shaped]
    """What a batch holds of each."""
    flops: int
    """Of one example: training the network's encoders, and the teachers' forward passes."""
    trained: Params | None = None
    """Which parameters are; see `distill.train.step.Learner`."""
    average_decay: float | None = None
    """Of a moving average of the parameters; None keeps none."""
    frozen: Any = None
    """The teachers' parameters as `jax.ShapeDtypeStruct`s with shardings."""

    @property
    def model_flops(self) -> int:
        """Of one step."""
        return self.flops * self.batch_size

    @property
    def learner(self) -> Learner:
        """What is trained, and how."""
        return Learner(self.task, self.optimizer, self.trained, self.average_decay)

    @property
    def state(self) -> TrainState:
        """What a device holds from step to step, as `jax.ShapeDtypeStruct`s with shardings."""
        averaged = self.average_decay is not None
        return abstract_state(self.network, self.optimizer, averaged=averaged)


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one device."""

    parameters: int
    optimizer: int
    teacher: int
    temporaries: int
    """Activations, gradients, gathered weights and the batch."""
    available: int
    """What the device offers to a program."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.parameters + self.optimizer + self.teacher + self.temporaries

    @property
    def fits(self) -> bool:
        """Whether the device has as much."""
        return self.total <= self.available


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a step takes on a slice. Bytes are the compiler's; seconds are estimates."""

    memory: Memory
    cost: Cost | None
    """None where the step does not fit, and so was not compiled."""
    flops_per_device: float
    """Model FLOPs of a step, without rematerialisation."""
    peak_flops: float
    """Of the device, per second."""
    batch_size: int
    compile_seconds: float
    executions: Mapping[str, Execution]
    """How the network's encoders are executed; see `distill.nn.Network.executions`."""
    method: Method = "schedule"
    """Where memory and seconds are from."""
    unestimated_kernels: int = 0
    """Pallas kernels in the program, which carry no cycles: of these only the traffic counts."""
    parts: tuple[Part, ...] = ()
    """What the step's seconds are spent on; see `distill.estimate.breakdown`."""

    @property
    def mfu(self) -> float:
        """Model FLOPs utilisation."""
        return self.flops_per_device / self.peak_flops / self._seconds

    @property
    def images_per_second(self) -> float:
        """Of the whole slice."""
        return self.batch_size / self._seconds

    @property
    def _seconds(self) -> float:
        if self.cost is None:
            raise ValueError("the step does not fit, and so takes no time that is known")
        return self.cost.seconds


def plan_step(job: Job, topology: Topology, mesh: Mesh, dump: Path | None = None) -> Plan:
    """Compiles `job` for `mesh`, whose devices are those of `topology`.

    Args:
      job: what to compile.
      topology: what to compile it for.
      mesh: over all its devices.
      dump: where to write the scheduled program as text.
    """
    state, batch = job.state, abstract_batch(job.examples, job.batch_size, batch_sharding(mesh))
    sizes = kept_bytes(state, job.frozen)
    placement = jax.tree.map(lambda leaf: leaf.sharding, state)
    with blame("config.train"):
        step = make_train_step(job.learner, 0, placement, microbatches=job.microbatches)
    lowered = step.lower(state, job.frozen, batch)
    # What the step does not look at, such as a teacher's text tower, is there all the same.
    held = sum(sizes.values()) + bytes_per_device(batch)
    return plan_program(lowered, topology, mesh, sizes, held, job, dump)


def plan_program(
    lowered: Any,
    topology: Topology,
    mesh: Mesh,
    sizes: Mapping[str, int],
    held: int,
    job: Job,
    dump: Path | None = None,
) -> Plan:
    """Compiles a program and reads off what it takes.

    Args:
      lowered: what `jax.jit(…).lower` returned.
      topology: what to compile it for.
      mesh: over all its devices.
      sizes: bytes that a device keeps, as `kept_bytes` has them.
      held: bytes of all arguments on a device.
      job: whose examples it is shown, and whose FLOPs it computes.
      dump: where to write the scheduled program as text.
    """
    began = time.perf_counter()
    compiled = _compile(lowered, mesh, dict(topology.options))
    seconds = time.perf_counter() - began

    def finished(needed: int, available: int, cost: Cost | None, kernels: int = 0) -> Plan:
        return Plan(
            memory=Memory(
                **sizes, temporaries=max(0, needed - sum(sizes.values())), available=available
            ),
            cost=cost,
            flops_per_device=job.model_flops / topology.device_count,
            peak_flops=topology.chip.peak_flops,
            batch_size=job.batch_size,
            compile_seconds=seconds,
            executions=job.network.executions(job.batch_size // job.microbatches),
            unestimated_kernels=kernels,
        )

    if isinstance(compiled, _TooLarge):
        return finished(compiled.needed, compiled.available, None)
    found = compiled.memory_analysis()
    needed = max(found.argument_size_in_bytes, held) + found.temp_size_in_bytes
    needed += found.output_size_in_bytes - found.alias_size_in_bytes
    try:
        text = compiled.as_text()
    except jax.errors.JaxRuntimeError as error:
        # What a topology's options turn off is all that has been seen to do this.
        raise RunFailed(
            f"libtpu has compiled the step, and jax cannot read the program: {error}. Plan another "
            "topology or mesh"
        ) from error
    if dump is not None:
        dump.write_text(text, encoding="utf-8")
    program = hlo.parse(text)
    spent = spend(program, topology.chip, coordinates(mesh), topology.shape, topology.rings)
    kernels = text.count('custom_call_target="tpu_custom_call"')
    plan = finished(needed, topology.hbm_bytes, cost_of(spent), kernels)
    return dataclasses.replace(plan, parts=tuple(breakdown(program, spent)))


def state_bytes(job: Job) -> int:
    """What a device holds from step to step, whatever the compiler does. Compiles nothing."""
    return sum(kept_bytes(job.state, job.frozen).values())


def kept_bytes(state: TrainState, frozen: Any) -> dict[str, int]:
    """The same, by what it is."""
    return {
        "parameters": bytes_per_device((state.params, state.average)),
        "optimizer": bytes_per_device((state.opt_state, state.step)),
        "teacher": bytes_per_device(frozen),
    }


def bytes_per_device(tree: Any) -> int:
    """Bytes on each device of arrays that have shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


@dataclasses.dataclass(frozen=True)
class _TooLarge:
    needed: int
    available: int


def _compile(lowered: Any, mesh: Mesh, options: dict[str, bool]) -> Any:
    try:
        with _nothing_kept(), ended_at_once():
            return compile_for(lowered, mesh, options)
    except jax.errors.JaxRuntimeError as error:
        return _too_large(str(error))


@contextlib.contextmanager
def _nothing_kept() -> Iterator[None]:
    """Without JAX's cache, which keeps programs for other machines and cannot load them."""
    # JAX makes its options attributes while it starts.
    config: Any = jax.config
    kept = config.jax_enable_compilation_cache
    config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        config.update("jax_enable_compilation_cache", kept)
        compilation_cache.reset_cache()


def _too_large(message: str) -> _TooLarge:
    """The figures in libtpu's complaint, in any of its wordings.

    Raises:
      RunFailed: if it complains of something else.
    """
    wordings = (
        r"total memory required for HLO temporaries \(([\d.]+\w)\) exceeds available HBM "
        r"\(([\d.]+\w)\)",
        r"Used ([\d.]+\w) of ([\d.]+\w) hbm",
    )
    for wording in wordings:
        if found := re.search(wording, message):
            return _TooLarge(*(_parse_size(size) for size in found.groups()))
    raise RunFailed(f"the compiler refused the step: {message}")


def _parse_size(text: str) -> int:
    """Such as 30.75G."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    return int(float(text[:-1]) * units[text[-1]])
