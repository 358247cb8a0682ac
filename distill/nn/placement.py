"""Where a network lives on a mesh."""

import dataclasses
import math
from typing import Any

from flax import nnx
from jax.sharding import Mesh

from distill.optim import match_rules
from distill.parallel import DEFAULT_RULES, Axes, RuleTable, mesh_axes


@dataclasses.dataclass(frozen=True)
class Placement:
    """Teacher and student share a mesh, but not necessarily rules.

    Raises:
      ValueError: for a rule that names an axis the mesh does not have.
    """

    mesh: Mesh
    rules: RuleTable = DEFAULT_RULES

    def __post_init__(self):
        self.rules.check(self.mesh.axis_names)

    def name_axes(self, module: nnx.Module) -> None:
        """Has each parameter with a rule of its own carry that rule's mesh axes as its `axes`.

        The axis `layers`, along which blocks are stacked and which the encoder's scan walks,
        remains.

        Raises:
          ValueError: for a rule that decides nothing (see `distill.optim.match_rules`), does not
            fit the dimensions of a parameter, or cuts one into parts that are not equal.
        """
        params = {
            "/".join(map(str, path)): node
            for path, node in nnx.iter_graph(module)
            if isinstance(node, nnx.Param)
        }
        shapes = {name: param.get_value() for name, param in params.items()}
        rules = [(pattern, (pattern, dims)) for pattern, dims in self.rules.params]
        for name, rule in match_rules(rules, shapes, None).items():
            if rule is not None:
                params[name].set_metadata(axes=self._axes(name, params[name], *rule))

    def _axes(self, name: str, param: nnx.Param, pattern: str, dims: Axes) -> Axes:
        axes = axes_of(param)
        stack = ("layers",) if "layers" in axes else ()
        shape, logical = param.shape[len(stack) :], axes[len(stack) :]
        if len(dims) != len(shape):
            raise ValueError(
                f"rule {pattern!r} says where {len(dims)} dimensions go, but {name} has "
                f"{len(shape)}: {', '.join(map(str, logical))}"
            )
        cuts = tuple(mesh_axes(dim) for dim in dims)
        for size, cut in zip(shape, cuts, strict=True):
            parts = math.prod(self.mesh.shape[axis] for axis in cut)
            if size % parts:
                raise ValueError(
                    f"rule {pattern!r} cuts a dimension of {size} of {name} over "
                    f"{' and '.join(cut)}, into {parts} parts that cannot be equal"
                )
        return (*stack, *cuts)


def axes_of(variable: nnx.Variable) -> tuple[Any, ...]:
    """The axes a parameter was created with; of one created without, axes that have no names."""
    return variable.get_metadata().get("axes", (None,) * len(variable.shape))
