"""How an encoder is executed where its config leaves it to the platform: `auto`.

Rematerialisation and unrolling change what a step takes, not what it computes.
"""

import contextlib
import contextvars
import math
from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from distill.nn.kernels import Kernel, choose
from distill.parallel import BATCH_AXES, Chip, chip_of, current_device

Policy = Literal["none", "full", "dots", "offload"]
"""What the backward pass computes again: nothing, each block, or all but its products, which are
kept on the device or in the memory of its host."""
Remat = Literal["auto", "none", "full", "dots", "offload"]
"""A policy, or "auto" for the one that suits platform, depth and memory; see `execution_of`."""
Unroll = bool | Literal["auto"]
"""Whether layers are straight-line code; "auto" says so where that is faster."""

# Of fewer layers straight-line code was faster on a CPU, of as many a scan that keeps products.
_FEWEST_SCANNED = 4
# Of a device's memory: what is little enough to be kept without a thought, and what state and what
# is kept may fill, as the rest is for heads, batches, other networks and what a compiler pads.
_LITTLE, _MOST = 0.1, 0.7
# Where nobody says how much a device has: the least that any of `distill.parallel.chips` does.
_UNKNOWN_BYTES = 16 * 2**30
# Of a parameter: itself, its gradient and two moments, float32.
_STATE_BYTES = 16


class _Encoded(Protocol):
    """What of an encoder's configuration decides how it is executed."""

    @property
    def width(self) -> int: ...

    @property
    def mlp_dim(self) -> int: ...

    @property
    def heads(self) -> int: ...

    @property
    def gated(self) -> bool: ...

    @property
    def attention(self) -> Kernel: ...

    @property
    def compute_dtype(self) -> jnp.dtype: ...


class Execution(NamedTuple):
    """How an encoder is executed."""

    remat: Policy
    unroll: bool
    why: str = ""
    """In words, where something was left open."""
    saves_nothing: bool = False
    """Whether things are computed again and memory is not saved: XLA for CPUs takes out the
    barriers by which straight-line code keeps nothing."""


def execution_of(
    config: _Encoded, depth: int, remat: Remat, unroll: Unroll, batch: int, tokens: int
) -> Execution:
    """How an encoder is executed where it is traced; what is not "auto" stays as it is.

    The choice is the same for equal arguments on equal devices, whatever else is in memory, so that
    a run that is resumed goes on as it began, and all processes compile one program.

    - Traced for no mesh, such as to be exported or counted: a scan, and nothing computed again.
    - On one CPU device: straight-line code of fewer than four layers, a scan that keeps products
      (dots) of more. Given straight-line code, nothing is computed again: it would save nothing.
    - On accelerators: a scan. Nothing is computed again if what is kept for the backward pass
      takes at most a tenth of a device's memory. Beyond, to write it and read it takes longer than
      to compute again all but the products: dots, if that and the state take at most 0.7 of the
      memory, or else full.
    - On several CPU devices, which stand for other machines: a scan, and nothing computed again.

    Args:
      config: of the encoder.
      depth: its layers.
      remat: as the config has it.
      unroll: as the config has it.
      batch: B of the tokens [B, T, D] it gets, over all devices.
      tokens: T.
    """
    if remat != "auto" and unroll != "auto":
        in_vain = unroll and remat != "none" and current_device().platform == "cpu"
        return Execution(remat, unroll, saves_nothing=in_vain)
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return _filled(remat, unroll, Execution("none", False))
    device, chip = current_device(), _planned_for.get()
    if chip is None and device.platform == "cpu":
        return _filled(remat, unroll, _on_cpu(depth, remat, unroll, mesh.size))
    has = device_bytes(device) if chip is None else chip.hbm_bytes
    return _filled(remat, unroll, _on_accelerator(config, depth, remat, batch, tokens, has))


_planned_for: contextvars.ContextVar[Chip | None] = contextvars.ContextVar("chip", default=None)


@contextlib.contextmanager
def planned_for(chip: Chip) -> Iterator[None]:
    """Has executions chosen as on accelerators of which there is no device here."""
    token = _planned_for.set(chip)
    try:
        yield
    finally:
        _planned_for.reset(token)


def _filled(remat: Remat, unroll: Unroll, auto: Execution) -> Execution:
    """What is given, and `auto` for the rest."""
    return Execution(
        auto.remat if remat == "auto" else remat,
        auto.unroll if unroll == "auto" else unroll,
        auto.why,
    )


def _on_cpu(depth: int, remat: Remat, unroll: Unroll, devices: int) -> Execution:
    if devices > 1:
        return Execution("none", False, f"{devices} CPU devices")
    why = f"{depth} layer{'s' if depth > 1 else ''} on a CPU"
    flat = depth < _FEWEST_SCANNED and remat in ("auto", "none") if unroll == "auto" else unroll
    return Execution("none" if flat else "dots", flat, why)


def _on_accelerator(
    config: _Encoded, depth: int, remat: Remat, batch: int, tokens: int, has: int
) -> Execution:
    kept = kept_bytes(config, depth, batch, tokens)
    state = state_bytes(config, depth)
    if kept["none"] <= _LITTLE * has:
        policy = "none"
    else:
        policy = "dots" if kept["dots"] + state <= _MOST * has else "full"
    sizes = ", ".join(f"{_gib(kept[name])} with {name}" for name in ("none", "dots", "full"))
    why = f"of {_gib(has)} a device the backward pass keeps, by estimate, {sizes}"
    # Where a policy is named, there is nothing to give a reason for: layers are scanned anyway.
    return Execution(policy, False, why if remat == "auto" else "")


def kept_bytes(config: _Encoded, depth: int, batch: int, tokens: int) -> dict[Policy, int]:
    """What is kept for the backward pass on each device of the mesh in context, an estimate.

    Counted from what JAX keeps of a block of each token: with "full" its input; with "dots" also
    the results of its products; with "none" all that derivatives are made of, norms and softmax in
    float32. Of what is not kept, one layer is there while it is computed again.

    Args:
      config: of the encoder.
      depth: its layers.
      batch: B, over all devices.
      tokens: T.
    """
    width, hidden = config.width, config.mlp_dim * (1 + config.gated)
    head = (config.heads, width // config.heads)
    query = jax.ShapeDtypeStruct((batch, tokens, *head), config.compute_dtype)
    plain = choose(query, query, config.attention) == "plain"
    weights = config.heads * tokens if plain else 0
    size = config.compute_dtype.itemsize
    whole = size * (8 * width + 6 * hidden + weights) + 4 * (6 * width + weights)
    block: dict[Policy, int] = {
        "none": depth * whole,
        "dots": depth * size * (5 * width + hidden) + whole,
        "full": depth * size * width + whole,
    }
    share = batch * tokens / _shared(*BATCH_AXES, "tensor")
    return {policy: math.ceil(count * share) for policy, count in block.items()}


def state_bytes(config: _Encoded, depth: int) -> int:
    """What an encoder's parameters, gradients and moments take on each device, an estimate."""
    width = config.width
    parameters = depth * (4 * width * width + (2 + config.gated) * width * config.mlp_dim)
    return math.ceil(parameters * _STATE_BYTES / _shared("fsdp", "tensor"))


def device_bytes(device: jax.Device) -> int:
    """The memory of a device, the same for all of its kind."""
    if chip := chip_of(device.device_kind):
        return chip.hbm_bytes
    # That of one elsewhere cannot be asked for.
    alike = (one for one in jax.local_devices() if one.device_kind == device.device_kind)
    local = next(alike, None)
    found = {} if local is None else local.memory_stats() or {}
    # A power of two: what allocators say differs a little from one to the next.
    return 2 ** (found.get("bytes_limit", _UNKNOWN_BYTES).bit_length() - 1)


def _shared(*axes: str) -> int:
    """How many devices share what is cut over these axes of the mesh in context."""
    shape = jax.sharding.get_abstract_mesh().shape
    return math.prod(shape.get(axis, 1) for axis in axes)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
