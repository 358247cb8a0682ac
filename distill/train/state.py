"""What training changes, and where each part of it lives."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from distill.nn import Network, Params
from distill.parallel import replicated, shardings

# Streams of randomness; each draw's key is derived from (seed, stream) and what is drawn.
INIT_STREAM, STEP_STREAM = 0, 1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """A pytree of arrays; everything a checkpoint must hold besides the data's position."""

    step: jax.Array
    """Updates done so far, int32 scalar."""
    params: Params
    opt_state: Any


def init_params(network: Network, seed: int, mesh: Mesh) -> Params:
    """Draws parameters straight into their shardings: no device holds more than its part."""
    out = shardings(mesh, network.abstract_params, network.axes)
    key = jax.random.fold_in(jax.random.key(seed), INIT_STREAM)
    return jax.jit(network.init, out_shardings=out)(key)


def init_state(
    network: Network, optimizer: optax.GradientTransformation, seed: int, mesh: Mesh
) -> TrainState:
    """The state before the first step."""
    params = init_params(network, seed, mesh)
    opt_state = jax.jit(
        optimizer.init, out_shardings=opt_state_shardings(network, optimizer, mesh)
    )(params)
    return TrainState(jax.device_put(jnp.zeros((), jnp.int32), replicated(mesh)), params, opt_state)


def abstract_state(
    network: Network, optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """The state as `jax.ShapeDtypeStruct`s with shardings; allocates nothing."""
    params = with_shardings(
        network.abstract_params, shardings(mesh, network.abstract_params, network.axes)
    )
    opt_state = with_shardings(
        jax.eval_shape(optimizer.init, params), opt_state_shardings(network, optimizer, mesh)
    )
    step = jax.ShapeDtypeStruct((), jnp.int32, sharding=replicated(mesh))
    return TrainState(step, params, opt_state)


def opt_state_shardings(
    network: Network, optimizer: optax.GradientTransformation, mesh: Mesh
) -> Any:
    """Moments shaped like a parameter are sharded like it; everything else is replicated."""
    whole = replicated(mesh)
    params = network.abstract_params
    like_params = shardings(mesh, params, network.axes)
    structure = jax.tree.structure(params)

    def is_params_like(node):
        return jax.tree.structure(node) == structure

    def place(node):
        if not is_params_like(node):
            return whole
        return jax.tree.map(
            lambda moment, param, sharding: sharding if moment.shape == param.shape else whole,
            node,
            params,
            like_params,
        )

    return jax.tree.map(place, jax.eval_shape(optimizer.init, params), is_leaf=is_params_like)


def with_shardings(abstract: Any, placement: Any) -> Any:
    """Adds shardings to a tree of `jax.ShapeDtypeStruct`s."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        abstract,
        placement,
    )
