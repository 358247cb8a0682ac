"""Parts of a batch whose gradients are computed one after another."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Whole:
    """What belongs to all examples of a batch alike, and goes with each of its parts."""

    values: Any


def cut(prepared: Any, count: int) -> tuple[list[jax.Array], Callable[[list[jax.Array]], Any]]:
    """A batch in parts, and what makes a part of its arrays again.

    Args:
      prepared: a tree of arrays that begin with the batch, and of `Whole`.
      count: of the parts.

    Returns:
      Arrays [count, B / count, …], and a function of their entries at one place.
    """

    def split(x: jax.Array) -> jax.Array:
        # Every n-th example, so that each device cuts up its own part of the batch.
        return jnp.moveaxis(x.reshape(-1, count, *x.shape[1:]), 1, 0)

    leaves, tree = jax.tree.flatten(prepared, is_leaf=lambda leaf: isinstance(leaf, Whole))

    def join(part: list[jax.Array]) -> Any:
        rest = iter(part)
        return tree.unflatten([x if isinstance(x, Whole) else next(rest) for x in leaves])

    return [split(leaf) for leaf in leaves if not isinstance(leaf, Whole)], join
