"""A model seen as pure functions of its parameters, which is all that training needs."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Self

import jax
from flax import nnx
from jax.sharding import Mesh

from distill.nn.execution import Execution, execution_of
from distill.nn.placement import Placement, axes_of
from distill.parallel import DEFAULT_RULES, RuleTable, sharding_context, shardings

Params = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Network:
    """Initialises, describes and applies a module; owns no arrays.

    The module, any of flax.nnx whose variables are all parameters, is traced once without
    allocating memory, so that a ViT-22B can be described on a laptop. Parameters are nested dicts
    of arrays; the graph definition never leaves this class. What is of images,
    `distill.nn.vision` adds.
    """

    config: Any
    """Every choice in the module: a frozen dataclass, hashable."""
    build: Callable[..., nnx.Module]
    """Creates the module as `build(config, rngs=rngs)`."""
    placement: Placement | None = None
    """None leaves every array to the compiler."""

    @property
    def encoders(self) -> dict[str, Any]:
        """The configs of its encoders by their key in that of the network, "" where it is the same.

        Of encoders that are executed in one way alone there is none.
        """
        return {"": self.config} if hasattr(self.config, "remat") else {}

    def executions(self, batch_size: int) -> dict[str, Execution]:
        """How each of `encoders` is executed on so many examples at once, over all devices."""
        with self._sharding_context():
            return {
                key: execution_of(
                    one, one.depth, one.remat, one.unroll, batch_size, one.sequence_length
                )
                for key, one in self.encoders.items()
            }

    def placed(self, mesh: Mesh, rules: RuleTable = DEFAULT_RULES) -> Self:
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

    def init(self, key: jax.Array) -> Params:
        """Draws the parameters; under `jax.jit` with shardings, each device draws its part."""
        return nnx.to_pure_dict(nnx.state(self._build(key)))

    def apply(self, params: Params, *inputs: Any, method: Callable[..., Any] | None = None) -> Any:
        """Calls the module.

        Args:
          params: of the network.
          *inputs: what the module is called with.
          method: called with the module and the inputs in place of the module itself, such as for
            one tower of two.
        """
        with self._sharding_context():
            module = nnx.merge(self._placed[0], params)
            return module(*inputs) if method is None else method(module, *inputs)

    def abstract_inputs(self, batch_size: int) -> tuple[Any, ...] | None:
        """What `apply` takes of a batch, as `jax.ShapeDtypeStruct`s; None where nothing says it."""
        del batch_size

    def check(self, batch_size: int) -> None:
        """Traces a forward pass, which shows what cannot be computed where the network is placed.

        Nothing is traced where nothing says what the module is called with.

        Raises:
          ValueError: such as for an attention kernel that the device does not have.
        """
        inputs = self.abstract_inputs(batch_size)
        if inputs is not None:
            jax.eval_shape(self.apply, self.abstract_params, *inputs)

    def _sharding_context(self):
        if self.placement is None:
            return contextlib.nullcontext()
        return sharding_context(self.placement.mesh, self.placement.rules)

    def _build(self, key: jax.Array) -> nnx.Module:
        return self.build(self.config, rngs=nnx.Rngs(params=key))

    @property
    def _abstract(self) -> tuple[nnx.GraphDef, nnx.State]:
        return _traced(self.build, self.config)

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
        """The parameters as `jax.ShapeDtypeStruct`s.

        Raises:
          ValueError: if the module has variables that are no parameters.
        """
        return nnx.to_pure_dict(self._abstract[1])

    @property
    def axes(self) -> Params:
        """A dict like the parameters, with each parameter's logical axes as a tuple.

        Axes of a parameter that was created without `axes` have no names: it is never cut.
        """
        return _axes(self._abstract[1])

    @property
    def placed_axes(self) -> Params:
        """As `axes`, but with the mesh axes that a rule names for a parameter."""
        return _axes(self._placed[1])

    @property
    def mesh(self) -> Mesh:
        """Over which the network is cut.

        Raises:
          ValueError: if it has not been placed on a mesh.
        """
        return self._place.mesh

    @property
    def shardings(self) -> Params:
        """A dict like the parameters, with each parameter's sharding.

        Raises:
          ValueError: if the network has not been placed on a mesh, or a rule for parameters does
            not fit them.
        """
        return self.shardings_of(self.abstract_params, self.placed_axes)

    def shardings_of(self, abstract: Any, axes: Any) -> Any:
        """The sharding of each leaf of a tree that belongs to the network, by the leaves' axes.

        Args:
          abstract: the tree as `jax.ShapeDtypeStruct`s, such as an optimizer's state.
          axes: a tree like it, of tuples as `placed_axes` has them.

        Raises:
          ValueError: if the network has not been placed on a mesh, or a rule for parameters does
            not fit.
        """
        return shardings(self._place.mesh, abstract, axes, self._place.rules)

    @property
    def _place(self) -> Placement:
        if self.placement is None:
            raise ValueError("the network has no mesh; place it with Network.placed")
        return self.placement

    def parameter_count(self, *, without: tuple[str, ...] = ()) -> int:
        """Number of parameters, leaving out the top-level modules named in `without`."""
        kept = {k: v for k, v in self.abstract_params.items() if k not in without}
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(kept))


@functools.lru_cache(maxsize=32)
def _traced(build: Callable[..., nnx.Module], config: Any) -> tuple[nnx.GraphDef, nnx.State]:
    """The module without its arrays; the same wherever the network is placed."""
    module = nnx.eval_shape(lambda: build(config, rngs=nnx.Rngs(params=jax.random.key(0))))
    graph, state = nnx.split(module)
    for path, variable in nnx.to_flat_state(state):
        if not issubclass(variable.type, nnx.Param):
            raise ValueError(
                f"{'/'.join(map(str, path))} is a {variable.type.__name__}; every variable of "
                "a network's module must be an nnx.Param, as nothing else is kept"
            )
    return graph, state


def _axes(state: nnx.State) -> Params:
    flat = nnx.to_flat_state(state)
    return nnx.traversals.unflatten_mapping({path: axes_of(var) for path, var in flat})
