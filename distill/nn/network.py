"""A model seen as pure functions of its parameters, which is all that training needs."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from distill.nn.kernels import Kernel
from distill.nn.placement import Placement
from distill.nn.preprocess import prepare_images
from distill.nn.vit import ViTConfig, ViTOutput
from distill.parallel import DEFAULT_RULES, RuleTable, constrain, sharding_context, shardings

Params = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Network:
    """Initialises, describes and applies a vision transformer; owns no arrays.

    The module is traced once, without allocating memory, so that a ViT-22B can be described on a
    laptop. Parameters are nested dicts of arrays; the graph definition never leaves this class.
    """

    config: ViTConfig
    build: Callable[..., nnx.Module]
    """Creates the module as `build(config, rngs=rngs)`."""
    placement: Placement | None = None
    """None leaves every array to the compiler."""

    def placed(self, mesh: Mesh, rules: RuleTable = DEFAULT_RULES) -> "Network":
        """The same network with its parameters and activations cut over `mesh`.

        Raises:
          ValueError: for a rule that names an axis the mesh does not have.
        """
        return dataclasses.replace(self, placement=Placement(mesh, rules))

    def check_rules(self) -> None:
        """Checks that the rules for parameters by name fit them.

        Raises:
          ValueError: for one that does not; see `distill.nn.placement`.
        """
        _ = self._placed

    def with_attention(self, kernel: Kernel) -> "Network":
        """The same network, its encoder's attention computed by `kernel`."""
        return dataclasses.replace(self, config=dataclasses.replace(self.config, attention=kernel))

    def init(self, key: jax.Array) -> Params:
        """Draws the parameters; under `jax.jit` with shardings, each device draws its part."""
        return nnx.to_pure_dict(nnx.state(self._build(key)))

    def prepare(self, images: jax.Array) -> jax.Array:
        """Views [B, any height, any width, C] in [0, 255] as the model takes them."""
        with self._sharding_context():
            config = self.config
            prepared = prepare_images(images, config.image_shape[:2], config.mean, config.std)
            return constrain(prepared, "batch", None, None, None)

    def apply(self, params: Params, images: jax.Array) -> ViTOutput:
        """Calls the module on prepared images."""
        with self._sharding_context():
            return nnx.merge(self._placed[0], params)(images)

    def check(self, batch_size: int) -> None:
        """Traces a forward pass, which shows what cannot be computed where the network is placed.

        Raises:
          ValueError: such as for an attention kernel that the device does not have.
        """
        shape = (batch_size, *self.config.image_shape)
        jax.eval_shape(self.apply, self.abstract_params, jax.ShapeDtypeStruct(shape, "float32"))

    def _sharding_context(self):
        if self.placement is None:
            return contextlib.nullcontext()
        return sharding_context(self.placement.mesh, self.placement.rules)

    def _build(self, key: jax.Array) -> nnx.Module:
        return self.build(self.config, rngs=nnx.Rngs(params=key))

    @functools.cached_property
    def _abstract(self) -> tuple[nnx.GraphDef, nnx.State]:
        return nnx.split(nnx.eval_shape(lambda: self._build(jax.random.key(0))))

    @functools.cached_property
    def _placed(self) -> tuple[nnx.GraphDef, nnx.State]:
        """With the axes that parameters have where the network is placed."""
        if self.placement is None or not self.placement.rules.params:
            return self._abstract
        module = nnx.eval_shape(lambda: self._build(jax.random.key(0)))
        self.placement.name_axes(module)
        return nnx.split(module)

    @property
    def abstract_params(self) -> Params:
        """The parameters as `jax.ShapeDtypeStruct`s."""
        return nnx.to_pure_dict(self._abstract[1])

    @property
    def axes(self) -> Params:
        """A dict like the parameters, with each parameter's logical axes as a tuple."""
        return _axes(self._abstract[1])

    @property
    def placed_axes(self) -> Params:
        """As `axes`, but with the mesh axes that a rule names for a parameter."""
        return _axes(self._placed[1])

    @property
    def shardings(self) -> Params:
        """A dict like the parameters, with each parameter's sharding.

        Raises:
          ValueError: if the network has not been placed on a mesh, or a rule for parameters does
            not fit them.
        """
        if self.placement is None:
            raise ValueError("the network has no mesh; place it with Network.placed")
        mesh, rules = self.placement.mesh, self.placement.rules
        return shardings(mesh, self.abstract_params, self.placed_axes, rules)

    def parameter_count(self, *, without: tuple[str, ...] = ()) -> int:
        """Number of parameters, leaving out the top-level modules named in `without`."""
        kept = {k: v for k, v in self.abstract_params.items() if k not in without}
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(kept))


def _axes(state: nnx.State) -> Params:
    flat = nnx.to_flat_state(state)
    return nnx.traversals.unflatten_mapping({path: var.axes for path, var in flat})
