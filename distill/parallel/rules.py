"""Which mesh axes each logical axis is cut over, for parameters and activations alike."""

import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Callable, Collection, Iterator
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

Rules = tuple[tuple[str, tuple[str, ...]], ...]
"""(logical axis, mesh axes) pairs."""

Axes = tuple[str | tuple[str, ...] | None, ...]
"""What the dimensions of an array are called: each by a logical axis, or by mesh axes, or None."""

ParameterRules = tuple[tuple[str, tuple[str | tuple[str, ...] | None, ...]], ...]
"""(regex, mesh axes of each dimension) pairs, for parameters by name; the first match wins."""


@dataclasses.dataclass(frozen=True)
class RuleTable:
    """Where all arrays live: parameters that have a rule by it, all else by its logical axes.

    The dimensions of an array take mesh axes from left to right, each at most once; of logical
    axes, those that do not divide a dimension are left out. So `embed` is cut over `fsdp` in a
    parameter, but not in an activation, whose batch has taken `fsdp` before.
    """

    logical: Rules
    params: ParameterRules = ()

    def check(self, axes: Collection[str]) -> None:
        """Checks that all rules name axes of a mesh.

        Args:
          axes: of the mesh.

        Raises:
          ValueError: for an axis that the mesh does not have.
        """
        named = [(rule, names) for rule, names in self.logical]
        named += [(rule, mesh_axes(*dims)) for rule, dims in self.params]
        for rule, names in named:
            if not set(names) <= set(axes):
                raise ValueError(f"rule {rule!r} names {names}; mesh axes are {', '.join(axes)}")


BATCH_AXES = ("data", "fsdp")
"""The mesh axes over which every batch is cut."""

DEFAULT_RULES = RuleTable(
    (
        ("batch", BATCH_AXES),
        ("embed", ("fsdp",)),
        ("heads", ("tensor",)),
        ("mlp", ("tensor",)),
        ("classes", ("tensor",)),
        ("vocab", ("tensor",)),
        # The features of activations between blocks: each device of `tensor` keeps its part
        # (arXiv 2302.05442, §3).
        ("residual", ("tensor",)),
    )
)

_rules: contextvars.ContextVar[RuleTable] = contextvars.ContextVar("rules", default=DEFAULT_RULES)
_device: contextvars.ContextVar[jax.Device | None] = contextvars.ContextVar("device", default=None)


def override_rules(overrides: Rules, params: ParameterRules = ()) -> RuleTable:
    """`DEFAULT_RULES` with some logical axes mapped elsewhere, and rules for parameters by name.

    Raises:
      ValueError: for a logical axis that no array has or that two rules are for, for `batch`, which
        is where the data is, or for a mesh axis that a rule names twice.
    """
    known = dict(DEFAULT_RULES.logical)
    if len(dict(overrides)) < len(overrides):
        given = ", ".join(axis for axis, _ in overrides)
        raise ValueError(f"there may be one rule for each logical axis, not {given}")
    for axis, names in overrides:
        if axis == "batch":
            raise ValueError("batches are always cut over data and fsdp; size those axes instead")
        if axis not in known:
            raise ValueError(f"no logical axis {axis!r}; there are {', '.join(known)}")
        _check_once(axis, names)
    for pattern, dims in params:
        _check_once(pattern, mesh_axes(*dims))
    return RuleTable(tuple((known | dict(overrides)).items()), params)


def mesh_axes(*dims: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The mesh axes that dimensions are cut over, each given as a name, several or None."""
    return tuple(name for dim in dims for name in ((dim,) if isinstance(dim, str) else dim or ()))


def _check_once(rule: str, names: tuple[str, ...]) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"rule {rule!r} names {names}; a mesh axis may be named once")


@contextlib.contextmanager
def sharding_context(mesh: Mesh | AbstractMesh, rules: RuleTable) -> Iterator[None]:
    """While traced inside, all functions here mean `mesh` and `rules`."""
    device = None if isinstance(mesh, AbstractMesh) else mesh.devices.flat[0]
    tokens = _rules.set(rules), _device.set(device)
    try:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            yield
    finally:
        _rules.reset(tokens[0])
        _device.reset(tokens[1])


def current_device() -> jax.Device:
    """A device of the mesh in `sharding_context`; outside of it, where JAX computes by default.

    It need not be one that this process can use: programs are also compiled for chips that are
    only described.
    """
    # JAX makes its options attributes while it starts.
    default = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    device = _device.get() or default
    if device is None or isinstance(device, str):
        return jax.devices(device)[0]
    return device


def current_platform() -> str:
    """What `current_device` is: "tpu", "gpu" or "cpu"."""
    return current_device().platform


def constrain(x: jax.Array, *axes: str | tuple[str, ...] | None) -> jax.Array:
    """Asks the compiler to keep `x`, and its gradient, where its axes belong.

    Without a mesh in context, or with one of other axes, it does nothing.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return x
    spec = partition_spec(mesh, x.shape, axes, _rules.get())
    return jax.lax.with_sharding_constraint(x, spec)


def materialize(x: jax.Array) -> jax.Array:
    """Has `x` computed once, on TPUs: XLA would do it again for every product that reads it.

    At ViT-22B's size, doing so for norms takes 2.6% off the estimated arithmetic of a step.
    """
    return jax.lax.optimization_barrier(x) if current_platform() == "tpu" else x


def settle(x: jax.Array) -> jax.Array:
    """Has `x` computed once, on TPUs, by what is not differentiated; else it is left to XLA.

    Where a gradient is taken, later passes read `x` too, and XLA sees for itself when to keep it.
    A forward pass alone has a single product read it, and XLA would put the product that computes
    it into that one, to do it again for every tile: of ViT-22B at 378 pixels on v5p, by estimate,
    0.6 s for the values of a batch of 4096 whose whole forward pass takes 3.0 s.
    """
    return _settle(x) if current_platform() == "tpu" else x


@jax.custom_vjp
def _settle(x: jax.Array) -> jax.Array:
    return jax.lax.optimization_barrier(x)


_settle.defvjp(lambda x: (x, None), lambda _, gradient: (gradient,))


def map_shards(
    function: Callable[..., jax.Array], *arrays: jax.Array, axes: tuple[str | None, ...]
) -> jax.Array:
    """Calls `function` on each device's part of the arrays, for what XLA cannot partition itself.

    Mesh axes over which no dimension is cut repeat the call. Inside a `shard_map`, only the mesh
    axes that are still the compiler's are cut; if the arrays are differentiated there, it needs
    `check_vma=False`. The arrays must live on the mesh or be traced inside `jax.jit`.

    Args:
      function: maps the parts of the arrays to an array of the shape of the first.
      *arrays: of the rank of `axes`.
      axes: the logical name of each dimension, the same for all arrays and the result.
    """
    mesh = jax.sharding.get_abstract_mesh()
    free = set(mesh.axis_names) - _manual_axes(mesh)
    if mesh.empty or mesh.size == 1 or not free:
        return function(*arrays)
    specs = tuple(partition_spec(mesh, x.shape, axes, _rules.get()) for x in arrays)
    # Kernels do not say over which axes their results vary, so nothing can be checked.
    run = jax.shard_map(
        function, in_specs=specs, out_specs=specs[0], axis_names=free, check_vma=False
    )
    return run(*arrays)


def _manual_axes(mesh: Mesh | AbstractMesh) -> set[str]:
    """The axes of a `shard_map` around the code that is traced."""
    pairs = zip(mesh.axis_names, mesh.axis_types, strict=True)
    return {name for name, kind in pairs if kind == AxisType.Manual}


def partition_spec(
    mesh: Mesh | AbstractMesh,
    shape: tuple[int, ...],
    axes: Axes,
    rules: RuleTable = DEFAULT_RULES,
) -> PartitionSpec:
    """The partition of an array whose dimensions are called `axes`."""
    table, spec = dict(rules.logical), []
    # Inside a `shard_map`, its own axes are not the compiler's to use.
    taken = _manual_axes(mesh)
    for size, axis in zip(shape, axes, strict=True):
        names = axis if isinstance(axis, tuple) else table.get(axis or "", ())
        wanted = tuple(name for name in names if name in mesh.shape and name not in taken)
        parts = math.prod(mesh.shape[name] for name in wanted)
        divides = parts > 1 and size % parts == 0
        taken.update(wanted if divides else ())
        spec.append(wanted if divides else None)
    return PartitionSpec(*spec)


def shardings(mesh: Mesh, abstract: Any, axes: Any, rules: RuleTable = DEFAULT_RULES) -> Any:
    """A tree like `abstract` with each array's sharding, from its `Axes`."""
    leaves, treedef = jax.tree.flatten(abstract)
    found = [
        NamedSharding(mesh, partition_spec(mesh, leaf.shape, names, rules))
        for leaf, names in zip(leaves, treedef.flatten_up_to(axes), strict=True)
    ]
    return treedef.unflatten(found)
