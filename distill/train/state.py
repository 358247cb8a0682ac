"""What training changes, and where each part of it lives."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from distill.nn import Network, Params
from distill.optim import state_axes
from distill.parallel import replicated

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
    average: Params | None = None
    """Moving average of the parameters, float32; None if none is kept."""

    @property
    def weights(self) -> Params:
        """What to evaluate and hand on: the average, if one is kept."""
        return self.params if self.average is None else self.average


def init_params(network: Network, seed: int) -> Params:
    """Draws parameters straight into their shardings: no device holds more than its part."""
    return _drawing(network)(jax.random.fold_in(jax.random.key(seed), INIT_STREAM))


@functools.lru_cache(maxsize=8)
def _drawing(network: Network) -> Callable[[jax.Array], Params]:
    """Runs of equal networks in one process, such as those of a study, compile this once."""
    return jax.jit(network.init, out_shardings=network.shardings)


def init_state(
    network: Network,
    optimizer: optax.GradientTransformation,
    seed: int,
    *,
    params: Params | None = None,
    averaged: bool = False,
) -> TrainState:
    """The state before the first step, on the mesh the network is placed on.

    Args:
      network: placed.
      optimizer: on the parameters' tree.
      seed: of the run.
      params: to start from, which the state takes over; None draws them.
      averaged: whether to keep a moving average of the parameters.
    """
    params = init_params(network, seed) if params is None else params
    out = opt_state_shardings(network, optimizer)
    opt_state = jax.jit(optimizer.init, out_shardings=out)(params)
    whole = replicated(network.mesh)
    step = jax.device_put(jnp.zeros((), jnp.int32), whole)
    return TrainState(step, params, opt_state, jax.tree.map(jnp.copy, params) if averaged else None)


def abstract_state(
    network: Network, optimizer: optax.GradientTransformation, *, averaged: bool = False
) -> TrainState:
    """The state as `jax.ShapeDtypeStruct`s with shardings; allocates nothing."""
    params = with_shardings(network.abstract_params, network.shardings)
    opt_state = with_shardings(
        jax.eval_shape(optimizer.init, params), opt_state_shardings(network, optimizer)
    )
    step = with_shardings(jax.ShapeDtypeStruct((), jnp.int32), replicated(network.mesh))
    return TrainState(step, params, opt_state, params if averaged else None)


def opt_state_shardings(network: Network, optimizer: optax.GradientTransformation) -> Any:
    """Every moment is cut as its parameter is; counts and placeholders are replicated."""
    params = network.abstract_params
    abstract = jax.eval_shape(optimizer.init, params)
    axes = state_axes(abstract, params, network.placed_axes)
    return network.shardings_of(abstract, axes)


def with_shardings(abstract: Any, placement: Any) -> Any:
    """Adds shardings to a tree of `jax.ShapeDtypeStruct`s."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        abstract,
        placement,
    )
