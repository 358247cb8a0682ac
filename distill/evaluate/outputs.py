"""What a network puts out of all images of a source, on the host."""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from distill.data import EvalLoader
from distill.nn import Network, Params, ViTOutput
from distill.parallel import in_flight, replicated


class Rows(NamedTuple):
    """Of the images of one batch that could be decoded, in the order of their source."""

    values: np.ndarray
    """[n, D] float32."""
    label: np.ndarray
    """[n] int32, −1 of an image without a label."""
    index: np.ndarray
    """[n] int64, places in the source, ascending."""


class Outputs:
    """Computes an output on the mesh the network is placed on; compiled once for all sources.

    Args:
      network: placed on the mesh.
      of: which of its outputs, [B, D].
    """

    def __init__(self, network: Network, of: Callable[[ViTOutput], jax.Array]):
        # What is replicated can be fetched by every process.
        @functools.partial(jax.jit, out_shardings=replicated(network.placement.mesh))
        def compute(params, batch):
            values = of(network.apply(params, network.prepare(batch["image"])))
            return Rows(values.astype(jnp.float32), batch["label"], batch["index"]), batch["mask"]

        self._compute = compute

    def __call__(self, params: Params, loader: EvalLoader) -> Iterator[Rows]:
        """Batch by batch, without padding and images that are corrupt.

        All processes must go over it, and all get the same.

        Raises:
          RunFailed: if too many images are corrupt.
        """
        for computed in in_flight(self._compute(params, batch) for batch in loader):
            rows, mask = jax.device_get(computed)
            mask = mask.astype(bool)
            yield Rows(*(part[mask] for part in rows))
