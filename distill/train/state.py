"""What training changes, and where each part of it lives."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from distill.nn import Network, Params
from distill.optim import state_axes
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


def init_params(network: Network, seed: int) -> Params:
    """Draws parameters straight into their shardings: no device holds more than its part."""
    key = jax.random.fold_in(jax.random.key(seed), INIT_STREAM)
    return jax.jit(network.init, out_shardings=network.shardings)(key)


def init_state(network: Network, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
    """The state before the first step, on the mesh the network is placed on."""
    params = init_params(network, seed)
    out = opt_state_shardings(network, optimizer)
    opt_state = jax.jit(optimizer.init, out_shardings=out)(params)
    whole = replicated(network.placement.mesh)
    return TrainState(jax.device_put(jnp.zeros((), jnp.int32), whole), params, opt_state)


def abstract_state(network: Network, optimizer: optax.GradientTransformation) -> TrainState:
    """The state as `jax.ShapeDtypeStruct`s with shardings; allocates nothing."""
    params = with_shardings(network.abstract_params, network.shardings)
    opt_state = with_shardings(
        jax.eval_shape(optimizer.init, params), opt_state_shardings(network, optimizer)
    )
    whole = replicated(network.placement.mesh)
    return TrainState(jax.ShapeDtypeStruct((), jnp.int32, sharding=whole), params, opt_state)


def opt_state_shardings(network: Network, optimizer: optax.GradientTransformation) -> Any:
    """Every moment is cut as its parameter is; counts and placeholders are replicated."""
    params, placement = network.abstract_params, network.placement
    abstract = jax.eval_shape(optimizer.init, params)
    axes = state_axes(abstract, params, network.axes)
    return shardings(placement.mesh, abstract, axes, placement.rules)


def with_shardings(abstract: Any, placement: Any) -> Any:
    """Adds shardings to a tree of `jax.ShapeDtypeStruct`s."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        abstract,
        placement,
    )
