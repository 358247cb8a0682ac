"""What is measured of a model: sums made of each batch on the device, added up on the host."""

import dataclasses
import operator
from collections.abc import Mapping
from typing import Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np

Sums = jax.Array | np.ndarray
"""On the device while a batch is measured, in NumPy once they are added up."""


class Metric(Protocol):
    """A measure's sums over some examples: a dataclass of arrays, registered as a pytree.

    A class method, by custom `of`, makes one from a batch inside a compiled function: float32 and
    int32 sums over the examples of which a mask is True. `merge` and `value` see the same in
    float64 and int64, on the host, so that the result hardly depends on how examples were batched.
    """

    @property
    def count(self) -> Sums:
        """Examples that were measured, an integer."""
        ...

    @property
    def requires(self) -> str:
        """What an example needs to be measured, such as `a label`; said of those that are not."""
        ...

    def merge(self, other: Self) -> Self:
        """The sums over the examples of both."""
        ...

    def value(self) -> float | Mapping[str, float | None] | None:
        """The measure, or several by what follows the metric's name in theirs, always the same.

        None where nothing can be said, for instance of no examples.
        """
        ...


class Additive:
    """A metric whose every array is a plain sum."""

    def merge(self, other: Self) -> Self:
        """The sums over the examples of both."""
        return jax.tree.map(operator.add, self, other)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mean(Additive):
    """The mean of a number per example."""

    total: Sums
    """Scalar."""
    count: Sums
    requires: str = dataclasses.field(default="", metadata={"static": True})

    @classmethod
    def of(cls, values: jax.Array, where: jax.Array, requires: str = "") -> Self:
        """Measures a batch.

        Args:
          values: [B]; bools count as 0 and 1.
          where: bool [B], whether an example counts; the values of others are not looked at.
          requires: what an example that does not count lacks.
        """
        values = jnp.where(where, values, 0).astype(jnp.float32)
        return cls(jnp.sum(values), jnp.sum(where, dtype=jnp.int32), requires)

    def value(self) -> float | None:
        """The mean; None of no examples."""
        return float(self.total / self.count) if self.count else None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Largest:
    """The largest of a number per example, and of several by name."""

    found: Sums
    """[K], the largest of each."""
    count: Sums
    names: tuple[str, ...] = dataclasses.field(default=(), metadata={"static": True})
    """K of them; none where there is one number."""
    requires: str = dataclasses.field(default="", metadata={"static": True})

    @classmethod
    def of(cls, values: jax.Array, where: jax.Array, names: tuple[str, ...] = ()) -> Self:
        """Measures a batch.

        Args:
          values: [B], or [B, K] where there are K names.
          where: bool [B], whether an example counts; the values of others are not looked at.
          names: what the K numbers are called.
        """
        values = values.reshape(len(where), -1).astype(jnp.float32)
        largest = jnp.max(jnp.where(where[:, None], values, -jnp.inf), axis=0)
        # A batch may have no example that counts, and what is not finite is refused.
        count = jnp.sum(where, dtype=jnp.int32)
        return cls(jnp.where(count > 0, largest, _LEAST), count, names)

    def merge(self, other: Self) -> Self:
        """The largest of both."""
        found = np.maximum(self.found, other.found)
        return dataclasses.replace(self, found=found, count=self.count + other.count)

    def value(self) -> float | Mapping[str, float | None] | None:
        """The largest, or by name; None of no examples."""
        values = [float(one) if self.count else None for one in np.ravel(self.found)]
        return dict(zip(self.names, values, strict=True)) if self.names else values[0]


# Below what any finite number is.
_LEAST = float(np.finfo(np.float32).min)
