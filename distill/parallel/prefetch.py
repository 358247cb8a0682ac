"""A scan over layers that fetches the next layer's weights while it computes this one.

With parameters cut over `fsdp`, every layer's weights have to be gathered before it can run, and
its gradients summed and cut again after it. Compilers that cannot overlap a gather with arithmetic
(XLA on TPU v4) let the whole mesh wait for each. Here both are rings of permutes, one layer ahead
of the arithmetic in the forward pass, one layer ahead (weights) and one behind (gradients) in the
backward pass, which is written out: what a layer needs from its forward pass is computed again.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

AXIS = "fsdp"
BATCH = ("data", "fsdp")

Layer = Callable[[Any, jax.Array], jax.Array]


def prefetched_scan(layer: Layer, params: Any, specs: Any, x: jax.Array, dtype: jnp.dtype):
    """Applies `layer(params[l], x)` for every l; the mesh is the ambient one.

    Args:
      layer: one layer as a function of its parameters and [B, T, D].
      params: arrays [L, ...], the layers' parameters stacked.
      specs: their partitions, which may use `fsdp` in one dimension and nothing else.
      x: [B, T, D], the batch cut over `data` and `fsdp`.
      dtype: in which kernels (two dimensions or more) travel, and so do their gradients.

    Returns:
      [B, T, D].

    Raises:
      ValueError: if the parameters are cut over another axis than `fsdp`.
    """
    for spec in jax.tree.leaves(specs, is_leaf=_is_spec):
        if not set(spec) <= {AXIS, (AXIS,), None}:
            raise ValueError(
                f"prefetching gathers parameters over fsdp alone, but one is cut as {spec}; use "
                "config.mesh.tensor=1, or config.model.prefetch=false"
            )
    mesh = jax.sharding.get_abstract_mesh()
    batch = PartitionSpec(BATCH)
    run = functools.partial(_run, layer, jax.tree.map(_cut_dim, specs, is_leaf=_is_spec), dtype)
    return jax.shard_map(run, mesh=mesh, in_specs=(specs, batch), out_specs=batch, check_vma=False)(
        params, x
    )


def _is_spec(node: Any) -> bool:
    return isinstance(node, PartitionSpec)


def _cut_dim(spec: PartitionSpec) -> int:
    """Which dimension of one layer's array is cut, or −1."""
    cut = [dim for dim, part in enumerate(spec) if part]
    return cut[0] - 1 if cut else -1


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _run(layer, dims, dtype, params, x):
    return _forward(layer, dims, dtype, params, x)[0]


def _forward(layer, dims, dtype, params, x):
    depth = jax.tree.leaves(params)[0].shape[0]

    def body(carry, index):
        x, weights = carry
        ahead = _gather(_layer(params, (index + 1) % depth), dims, dtype)
        return (layer(weights, x), ahead), x

    first = _gather(_layer(params, 0), dims, dtype)
    (y, _), inputs = lax.scan(body, (x, first), jnp.arange(depth))
    return y, (params, inputs)


def _backward(layer, dims, dtype, residuals, dy):
    params, inputs = residuals
    depth = jax.tree.leaves(params)[0].shape[0]
    last = _gather(_layer(params, depth - 1), dims, dtype)

    def body(carry, scanned):
        dy, weights, behind = carry
        index, x = scanned
        ahead = _gather(_layer(params, (index - 1) % depth), dims, dtype)
        gradient = _scatter(behind, dims)
        # Without the barrier the forward pass and this one could be merged, and all be kept.
        weights, x = lax.optimization_barrier((weights, x))
        dweights, dx = jax.vjp(layer, weights, x)[1](dy)
        return (dx, ahead, dweights), gradient

    start = (dy, last, jax.tree.map(jnp.zeros_like, last))
    (dx, _, dweights), behind = lax.scan(body, start, (jnp.arange(depth), inputs), reverse=True)

    def assemble(first, rest, param):
        # The scan puts out each layer's gradient one iteration late.
        return jnp.concatenate([first[None], rest[:-1]]).astype(param.dtype)

    # Over axes along which a parameter is not cut, shard_map sums its gradient.
    gradients = jax.tree.map(assemble, _scatter(dweights, dims), behind, params)
    return gradients, dx


_run.defvjp(_forward, _backward)


def _layer(params: Any, index: Any) -> Any:
    return jax.tree.map(lambda p: lax.dynamic_index_in_dim(p, index, keepdims=False), params)


def _gather(shards: Any, dims: Any, dtype: jnp.dtype) -> Any:
    """One layer's whole weights from everybody's parts."""

    def one(shard, dim):
        if shard.ndim > 1:
            shard = shard.astype(dtype)
        if dim < 0:
            return shard
        if shard.ndim == 1:
            # Too small to be worth a ring.
            return lax.all_gather(shard, AXIS, tiled=True)
        return ring_gather(shard, dim)

    return jax.tree.map(one, shards, dims)


def _scatter(gradients: Any, dims: Any) -> Any:
    """Everybody's part of the sum over `fsdp` of one layer's gradients."""

    def one(gradient, dim):
        if dim < 0:
            return gradient
        if gradient.ndim == 1:
            return lax.psum_scatter(gradient, AXIS, tiled=True)
        return ring_scatter(gradient, dim)

    return jax.tree.map(one, gradients, dims)


def ring_gather(shard: jax.Array, dim: int) -> jax.Array:
    """The concatenation of all devices' parts of an array along `dim`.

    In two stages: around rings of neighbours, then around rings of those rings, both ways at once,
    so that the number of permutes grows with the square root of the number of devices.
    """
    blocks = jnp.moveaxis(shard, dim, 0)
    for ring in reversed(_rings()):
        blocks = ring.gather(blocks)
    whole = blocks.reshape(-1, *blocks.shape[-shard.ndim + 1 :])
    return jnp.moveaxis(whole, 0, dim)


def ring_scatter(array: jax.Array, dim: int) -> jax.Array:
    """This device's part along `dim` of the sum of all devices' arrays; undoes `ring_gather`."""
    blocks = jnp.moveaxis(array, dim, 0)
    for ring in _rings():
        blocks = ring.scatter(blocks.reshape(ring.size, -1, *blocks.shape[1:]))
    return jnp.moveaxis(blocks, 0, dim)


def _rings() -> "tuple[_Ring, _Ring]":
    """Rings of rings, the outer one first."""
    size = lax.axis_size(AXIS)
    inner = max(n for n in range(1, math.isqrt(size) + 1) if size % n == 0)
    outer, inner = inner, size // inner
    return _Ring(outer, stride=inner, total=size), _Ring(inner, stride=1, total=size)


class _Ring:
    """Devices of `fsdp` whose numbers differ by multiples of a stride."""

    def __init__(self, size: int, *, stride: int, total: int):
        self.size = size
        self._stride = stride
        self._total = total

    def _position(self) -> jax.Array:
        return lax.axis_index(AXIS) // self._stride % self.size

    def _send(self, x: jax.Array, by: int) -> jax.Array:
        def target(device):
            place = device // self._stride % self.size
            return device + ((place + by) % self.size - place) * self._stride

        return lax.ppermute(x, AXIS, [(d, target(d)) for d in range(self._total)])

    def gather(self, block: jax.Array) -> jax.Array:
        """[size, *block.shape] in the order of the ring."""
        here, up, down = self._position(), block, block
        whole = jnp.zeros((self.size, *block.shape), block.dtype)
        whole = lax.dynamic_update_index_in_dim(whole, block, here, 0)
        for step in range(1, self.size // 2 + 1):
            up = self._send(up, 1)
            whole = lax.dynamic_update_index_in_dim(whole, up, (here - step) % self.size, 0)
            if 2 * step < self.size:
                down = self._send(down, -1)
                whole = lax.dynamic_update_index_in_dim(whole, down, (here + step) % self.size, 0)
        return whole

    def scatter(self, blocks: jax.Array) -> jax.Array:
        """This device's block of the sum of all devices' [size, ...]."""
        here = self._position()

        def block(offset):
            return lax.dynamic_index_in_dim(blocks, (here + offset) % self.size, keepdims=False)

        total = block(0)
        ways = ((1, self.size // 2), (-1, (self.size - 1) // 2))
        for way, distance in ways:
            if distance:
                travelling = block(way * distance)
                for step in range(distance - 1, 0, -1):
                    travelling = self._send(travelling, way) + block(way * step)
                total = total + self._send(travelling, way)
        return total
