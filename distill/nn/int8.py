"""Products of int8 numbers in place of a model's own, for one whose parameters do not change.

A weight is an int8 number times a factor of its output channel, fixed once; an activation an int8
number times a factor of its token, found as it comes. Both factors are the largest magnitude over
127, so that nothing is clipped and no data are needed beforehand ("vector-wise quantization",
arXiv 2208.07339, §3.1, without its outliers in float16). Products are summed in int32, exactly, and
multiplied by both factors in float32.

What is done so are the linear maps in the blocks of the encoder that sees the images. Attention
itself, norms, the embedding of patches, the head and the classifier stay as they are.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
from flax import nnx

from distill.nn.layers import Linear
from distill.nn.network import Params
from distill.nn.vision import VisionNetwork

NetworkT = TypeVar("NetworkT", bound=VisionNetwork)


@dataclasses.dataclass(frozen=True)
class _Quantised:
    """Builds what `build` does, its maps with int8 weights. Of equal builds, an equal one."""

    build: Callable[..., nnx.Module]

    def __call__(self, config: Any, *, rngs: nnx.Rngs) -> nnx.Module:
        module = self.build(config, rngs=rngs)
        _quantise(module)
        return module


def quantised(network: NetworkT) -> NetworkT:
    """The same network, taking the parameters that `quantise` makes.

    Raises:
      ValueError: if it has no such maps, or does not multiply by them one by one.
    """
    tower = network.tower
    for choice in ("fused", "async_linear"):
        if getattr(tower, choice, False):
            raise ValueError(
                f"int8 products are computed one by one; set model.{choice}=false, which changes "
                "nothing but how the model is computed"
            )
    return dataclasses.replace(network, build=_Quantised(network.build))


def quantise(network: VisionNetwork, params: Params) -> Params:
    """The parameters of a network as `quantised(network)` takes them, cut as it cuts them.

    Args:
      network: as it is, placed on a mesh.
      params: its own, of any floating-point dtype.
    """

    def convert(params: Params) -> Params:
        return network.apply(params, method=_converted)

    return jax.jit(convert, out_shardings=quantised(network).shardings)(params)


def abstract_quantised(network: VisionNetwork, params: Params) -> Params:
    """What `quantise` would return, as `jax.ShapeDtypeStruct`s with shardings.

    Args:
      network: see `quantise`.
      params: likewise, as `jax.ShapeDtypeStruct`s.
    """
    shapes = jax.eval_shape(lambda params: network.apply(params, method=_converted), params)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        quantised(network).shardings,
    )


def _converted(module: nnx.Module) -> Params:
    _quantise(module)
    return nnx.to_pure_dict(nnx.state(module))


def _quantise(module: nnx.Module) -> None:
    found = [*_maps(module)]
    if not found:
        raise ValueError("it has no linear maps in blocks of an encoder, which int8 could be of")
    for linear in found:
        linear.quantise()


def _maps(module: nnx.Module) -> Iterator[Linear]:
    """The linear maps in the blocks of the encoder of images."""
    for path, node in nnx.iter_graph(module):
        if isinstance(node, Linear) and "blocks" in path and "text" not in path:
            yield node
