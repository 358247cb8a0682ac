"""What a step takes on GPUs at best, from shapes, peaks and bandwidths: a roofline, no schedule.

No compiler for GPUs is asked, so that a laptop can do without one. What a device keeps from step to
step is exact. The rest of its memory is what is alive in the order of the trace, of a device's
share of the batch with nothing fused, beside gradients cut as their parameters are
(`distill.estimate.liveness`). Set beside what libtpu's compiler needed for three large plans, that
is 9 to 59% more.

A product takes the longer of its arithmetic at `PRODUCTS` of the peak and its operands and result
at `TRAFFIC` of the memory's bandwidth; the update reads and writes the state once; everything else
is taken to be fused into one of both. Every weight that is cut is gathered for each forward and
each backward pass, in the dtype that computes with it, and its gradient is reduced in float32.
Nothing of that is taken to be hidden behind arithmetic.
"""

import dataclasses
import math
import time
from collections.abc import Iterable
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from distill.data.batch_spec import abstract_batch
from distill.errors import UserError
from distill.estimate.cluster import Cluster, abstract_mesh, ring_seconds
from distill.estimate.cost import Cost
from distill.estimate.liveness import array_bytes, peak_bytes, products
from distill.estimate.plan import Job, Memory, Plan, bytes_per_device, kept_bytes
from distill.nn.execution import planned_for
from distill.parallel import MeshConfig, batch_sharding
from distill.train.step import make_train_step

PRODUCTS = 0.65
"""Of the peak that large products are taken to reach. An assumption: under its power limit a GPU
does not hold the clock that its peak is given for."""
TRAFFIC = 0.8
"""Of the memory's bandwidth. An assumption, too."""

# Peaks beside that of bfloat16. In float32 products are computed in TF32, JAX's default on GPUs.
_SPEED = {"float32": 0.5, "int8": 2.0}
# Gathers of a trained weight in a step, one for each pass over it.
_GATHERS = 2


def local_mesh(config: MeshConfig) -> tuple[MeshConfig, Mesh]:
    """How the step of one device's share of the batch is traced: not cut over anything.

    Raises:
      UserError: for a mesh that cuts more than the batch and the parameters.
    """
    if config.axes or config.tensor != 1:
        raise UserError(
            "a plan for GPUs takes meshes of data and fsdp alone: what tensor and further axes "
            "move between devices has no roofline here; set "
            + ("--config.mesh.axes='()'" if config.axes else "--config.mesh.tensor=1")
        )
    # Programs for one CPU alone have gradients of their own; a second device makes it another.
    local = MeshConfig(data=1, fsdp=1, tensor=1, axes=(("copies", 2),))
    return local, abstract_mesh(local, 2)


def plan_roofline(job: Job, local: Job, cluster: Cluster, mesh: Mesh) -> Plan:
    """Plans a step without compiling it.

    Args:
      job: on the mesh.
      local: of a device's share of the batch, on what `local_mesh` returned.
      cluster: what it runs on.
      mesh: over all its GPUs.
    """
    sizes = kept_bytes(job.state, job.frozen)
    moving = _communication_seconds(job, cluster, mesh)
    extra = Cost(compute=_update_seconds(sizes, cluster), exposed=moving)
    return traced_plan(_step(local), local, job, cluster, mesh, sizes, extra)


def plan_asking(ask: Any, job: Job, local: Job, cluster: Cluster, mesh: Mesh) -> Plan:
    """Plans a function of the frozen parameters and a batch, in which nothing is trained.

    Args:
      ask: the function.
      job: on the mesh.
      local: see `plan_roofline`.
      cluster: what it runs on.
      mesh: over all its GPUs.
    """
    sizes = kept_bytes(job.state, job.frozen) | {"parameters": 0, "optimizer": 0}
    received = sum(map(_missing, jax.tree.leaves(job.frozen)))
    moving = ring_seconds(cluster, received, 1, mesh.shape["fsdp"]) if received else 0.0
    extra = Cost(exposed=moving)

    def step(state: Any, frozen: Any, batch: Any) -> Any:
        del state
        return ask(frozen, batch)

    return traced_plan(step, local, job, cluster, mesh, sizes, extra)


def traced_plan(
    step: Any,
    local: Job,
    job: Job,
    cluster: Cluster,
    mesh: Mesh,
    sizes: dict[str, int],
    extra: Cost,
) -> Plan:
    """Plans a function of a state, frozen parameters and a batch.

    Args:
      step: the function.
      local: of a device's share of the batch.
      job: on the mesh.
      cluster: what it runs on.
      mesh: over all its GPUs.
      sizes: bytes that a device keeps, as `kept_bytes` has them.
      extra: what it takes beside its products.
    """
    began = time.perf_counter()
    batch = abstract_batch(local.examples, local.batch_size)
    state = dataclasses.replace(local, optimizer=optax.identity(), average_decay=None).state
    traced = jax.make_jaxpr(step)(state, local.frozen, batch).jaxpr
    examples = abstract_batch(job.examples, job.batch_size, batch_sharding(mesh))
    share = _cut(jax.tree.leaves((job.state.params, job.frozen)))

    def count(aval: Any) -> float:
        # What looks like a parameter is one, or its gradient, and cut as it is.
        return array_bytes(aval) * share.get(getattr(aval, "shape", ()), 1.0)

    alive = peak_bytes(traced, count) + bytes_per_device(examples)
    memory = Memory(**sizes, temporaries=int(alive), available=cluster.hbm_bytes)
    cost = extra + Cost(compute=_products_seconds(traced, cluster))
    with planned_for(cluster.chip):
        executed = job.network.executions(job.batch_size // job.microbatches)
    return Plan(
        memory=memory,
        cost=cost if memory.fits else None,
        flops_per_device=job.model_flops / cluster.device_count,
        peak_flops=cluster.chip.peak_flops,
        batch_size=job.batch_size,
        compile_seconds=time.perf_counter() - began,
        executions=executed,
        method="roofline",
    )


def _step(local: Job) -> Any:
    """The step up to its gradients; what an update does to the state is counted apart."""
    still = dataclasses.replace(local, optimizer=optax.identity(), average_decay=None)
    return make_train_step(still.learner, 0, microbatches=still.microbatches)


def _cut(leaves: Iterable[Any]) -> dict[tuple[int, ...], float]:
    """The share of each parameter that a device has, by its shape."""
    return {leaf.shape: _share(leaf) for leaf in leaves if len(leaf.shape) > 1}


def _share(leaf: Any) -> float:
    return math.prod(leaf.sharding.shard_shape(leaf.shape)) / math.prod(leaf.shape)


def _missing(leaf: Any) -> float:
    """Bytes of an array that other devices have."""
    return (1 - _share(leaf)) * math.prod(leaf.shape) * leaf.dtype.itemsize


def _products_seconds(traced: Any, cluster: Cluster) -> float:
    chip, seconds = cluster.chip, 0.0
    for one in products(traced):
        peak = PRODUCTS * chip.peak_flops * _SPEED.get(one.dtype, 1.0)
        traffic = one.moved / (TRAFFIC * chip.hbm_bandwidth)
        seconds += one.times * max(one.flops / peak, traffic)
    return seconds


def _update_seconds(sizes: dict[str, int], cluster: Cluster) -> float:
    """Parameters, gradients and moments, read and written once."""
    moved = 2 * (2 * sizes["parameters"] + sizes["optimizer"])
    return moved / (TRAFFIC * cluster.chip.hbm_bandwidth)


def _communication_seconds(job: Job, cluster: Cluster, mesh: Mesh) -> float:
    """Gathering weights that are cut, and reducing gradients where they belong."""
    width = jax.numpy.dtype(job.network.tower.dtype).itemsize
    passes = job.microbatches
    received = {"fsdp": 0.0, "data": 0.0}
    for leaf in jax.tree.leaves(job.state.params):
        number = math.prod(leaf.shape)
        kept, fsdp = _share(leaf), mesh.shape["fsdp"]
        around = 1 - 1 / fsdp
        if kept < 1:
            received["fsdp"] += passes * around * number * (_GATHERS * width + leaf.dtype.itemsize)
        else:
            received["fsdp"] += passes * 2 * around * number * leaf.dtype.itemsize
        replicas = 2 * (1 - 1 / mesh.shape["data"])
        received["data"] += passes * replicas * kept * number * leaf.dtype.itemsize
    received["fsdp"] += sum(map(_missing, jax.tree.leaves(job.frozen)))
    return sum(
        ring_seconds(cluster, received[axis], stride, mesh.shape[axis])
        for axis, stride in {"fsdp": 1, "data": mesh.shape["fsdp"]}.items()
        if mesh.shape[axis] > 1
    )
