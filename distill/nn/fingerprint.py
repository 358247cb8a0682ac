"""Which parameters a model has: a short text that changes when one bit of them does."""

import hashlib
import json
from typing import Any

import jax
import jax.numpy as jnp

from distill.nn.network import Params

# Odd numbers that spread positions and bits over 32 bits (the finaliser of MurmurHash3).
_SPREAD = (0x85EBCA6B, 0xC2B2AE35)
_SEEDS = (0x9E3779B9, 0x7F4A7C15)


def fingerprint(params: Params, about: Any = None) -> str:
    """64 bits of what names, shapes, dtypes and values of the parameters are, as hexadecimal text.

    Values are hashed where they live and summed as integers, so that any sharding gives the same.
    It tells checkpoints apart; it is no protection against forgery.

    Args:
      params: nested dicts of arrays.
      about: anything else that makes the model what it is, as JSON can hold it.
    """
    leaves = jax.tree.leaves_with_path(params)
    sums = jax.device_get([_sums(leaf) for _, leaf in leaves])
    content = [
        (jax.tree_util.keystr(path), leaf.shape, str(leaf.dtype), *map(int, found))
        for (path, leaf), found in zip(leaves, sums, strict=True)
    ]
    return hashlib.sha256(json.dumps([content, about]).encode()).hexdigest()[:16]


# Array by array: what is compiled for a shape serves all arrays and models that have it.
@jax.jit
def _sums(values: jax.Array) -> list[jax.Array]:
    """Sums, modulo 2³², of hashes of each value with its place."""
    unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[values.dtype.itemsize]
    bits = jax.lax.bitcast_convert_type(values, unsigned).astype(jnp.uint32)
    place = jnp.zeros(values.shape, jnp.uint32)
    for axis, size in enumerate(values.shape):
        place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, place.shape, axis)
    return [jnp.sum(_mix(bits ^ _mix(place ^ jnp.uint32(seed)))) for seed in _SEEDS]


def _mix(x: jax.Array) -> jax.Array:
    x = (x ^ (x >> 16)) * jnp.uint32(_SPREAD[0])
    x = (x ^ (x >> 13)) * jnp.uint32(_SPREAD[1])
    return x ^ (x >> 16)
