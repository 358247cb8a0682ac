"""What a network puts out of all images of a source, on the host."""

import functools
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from distill.data import EvalLoader
from distill.nn import Params, VisionNetwork
from distill.parallel import in_flight
from distill.parallel.compiling import jit_replicated


class Rows(NamedTuple):
    """Of the images of one batch that could be decoded, in the order of their source."""

    values: np.ndarray
    """[n, D] float32."""
    label: np.ndarray
    """[n] int32, −1 of an image without a label."""
    index: np.ndarray
    """[n] int64, places in the source, ascending."""


class Outputs:
    """Computes an output on the mesh the network is placed on.

    Args:
      network: placed on the mesh.
      what: which of its outputs, [B, D], or the method of its module that computes it of images.
    """

    def __init__(
        self,
        network: VisionNetwork,
        what: Literal["embedding", "logits"] | Callable[..., jax.Array],
    ):
        self._compute = _compiled(network, what)

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


@functools.cache
def _compiled(network: VisionNetwork, what: str | Callable[..., jax.Array]) -> Callable:
    """Rows of a batch and its mask; compiled once for all sources and evaluations."""

    @functools.partial(jit_replicated, mesh=network.mesh)
    def compute(params, batch):
        images = network.prepare(batch["image"])
        if isinstance(what, str):
            values = getattr(network.apply(params, images), what)
        else:
            values = network.apply(params, images, method=what)
        return Rows(values.astype(jnp.float32), batch["label"], batch["index"]), batch["mask"]

    return compute
