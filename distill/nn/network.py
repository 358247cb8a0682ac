"""A model seen as pure functions of its parameters, which is all that training needs."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from distill.nn.preprocess import prepare_images
from distill.nn.vit import ViTConfig, ViTOutput

Params = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Network:
    """Initialises, describes and applies a vision transformer; owns no arrays.

    The module is traced once, without allocating memory, so that a ViT-22B can be described on a
    laptop. Parameters are nested dicts of arrays; the graph definition never leaves this class.
    """

    config: ViTConfig
    build: Callable[[nnx.Rngs], nnx.Module]
    """Creates the module from random numbers."""

    def init(self, key: jax.Array) -> Params:
        """Draws the parameters; under `jax.jit` with shardings, each device draws its part."""
        return nnx.to_pure_dict(nnx.state(self.build(nnx.Rngs(params=key))))

    def prepare(self, images: jax.Array) -> jax.Array:
        """Views [B, any height, any width, C] in [0, 255] as the model takes them."""
        return prepare_images(images, self.config.image_shape[:2])

    def apply(self, params: Params, images: jax.Array) -> ViTOutput:
        """Calls the module on prepared images."""
        return nnx.merge(self._abstract[0], params)(images)

    @functools.cached_property
    def _abstract(self) -> tuple[nnx.GraphDef, nnx.State]:
        return nnx.split(nnx.eval_shape(lambda: self.build(nnx.Rngs(params=jax.random.key(0)))))

    @property
    def abstract_params(self) -> Params:
        """The parameters as `jax.ShapeDtypeStruct`s."""
        return nnx.to_pure_dict(self._abstract[1])

    @property
    def axes(self) -> Params:
        """A dict like the parameters, with each parameter's logical axes as a tuple."""
        flat = nnx.to_flat_state(self._abstract[1])
        return nnx.traversals.unflatten_mapping({path: var.axes for path, var in flat})

    def parameter_count(self, *, without: tuple[str, ...] = ()) -> int:
        """Number of parameters, leaving out the top-level modules named in `without`."""
        kept = {k: v for k, v in self.abstract_params.items() if k not in without}
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(kept))
