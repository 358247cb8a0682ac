"""The device mesh, and batches cut over it."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from distill.bounds import Devices, check_fields
from distill.parallel.rules import (
    BATCH_AXES,
    DEFAULT_RULES,
    ParameterRules,
    Rules,
    RuleTable,
    override_rules,
)

# Axes are written where sizes are given, expert=2.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Sizes of the mesh axes; one of them may be −1 and takes all devices that are left.

    Raises:
      ValueError: for sizes that are neither positive nor a single −1, names of further axes that
        are none or are taken, or rules that cannot be.
    """

    data: Devices = -1
    """Replicas: each holds all parameters and a part of the batch."""
    fsdp: Devices = 1
    """Each holds a part of every parameter that can be divided and a part of the batch."""
    tensor: Devices = 1
    """Each computes a part of every matrix product on the same part of the batch."""
    axes: tuple[tuple[str, Devices], ...] = ()
    """(name, size) pairs of further axes, which cut what a rule cuts over them and nothing else."""
    rules: Rules = ()
    """(logical axis, mesh axes) pairs in place of the defaults in `distill.parallel.rules`, such
    as (("residual", ()),)."""
    params: ParameterRules = ()
    """(regex, mesh axes of each dimension) pairs for parameters by name, the first match wins, in
    place of what `rules` says of them, such as (("mlp/input/kernel$", ("fsdp", "tensor")),). The
    dimensions are those of a single block: what stacks blocks is not cut between them."""

    def __post_init__(self):
        check_fields(self)
        names = self.axis_names
        if odd := [name for name in names if not _NAME.fullmatch(name)]:
            raise ValueError(
                f"{odd[0]!r} cannot name a mesh axis; expected a letter, then letters a to z and A "
                "to Z, digits and _, such as expert"
            )
        if len(names) < 3 + len(self.axes) or set(names) & set(dict(DEFAULT_RULES.logical)):
            given = ", ".join(name for name, _ in self.axes)
            taken = ", ".join([*names[:3], *dict(DEFAULT_RULES.logical)])
            raise ValueError(
                f"further mesh axes need names of their own, not {given}; {taken} are taken"
            )
        self.table.check(names)
        sizes = [*self._sizes.values()]
        if any(size < 1 and size != -1 for size in sizes) or sizes.count(-1) > 1:
            raise ValueError(
                f"mesh sizes ({', '.join(names)}) must be positive, one may be -1; not "
                f"({', '.join(map(str, sizes))})"
            )

    @property
    def _sizes(self) -> dict[str, int]:
        return {"data": self.data, "fsdp": self.fsdp, "tensor": self.tensor} | dict(self.axes)

    @property
    def axis_names(self) -> tuple[str, ...]:
        """Of all axes, in the order of the mesh."""
        return tuple(self._sizes)

    @property
    def table(self) -> RuleTable:
        """The whole table of rules."""
        return override_rules(self.rules, self.params)

    def sizes(self, devices: int) -> dict[str, int]:
        """The size of each axis on so many devices, by name, in the order of the mesh.

        Raises:
          ValueError: if they do not multiply to the number of devices.
        """
        asked = self._sizes
        fixed = math.prod(size for size in asked.values() if size != -1)
        filled = {k: devices // fixed if size == -1 else size for k, size in asked.items()}
        if math.prod(filled.values()) != devices:
            given = ", ".join(f"{name}={size}" for name, size in asked.items())
            raise ValueError(
                f"mesh {given} does not fill {devices} device(s); the sizes must multiply to "
                f"{devices}"
            )
        return filled

    def resized(self, sizes: Mapping[str, int]) -> "MeshConfig":
        """The same axes and rules with other sizes, by name."""
        further = dict(self.axes)
        first = {name: size for name, size in sizes.items() if name not in further}
        axes = tuple((name, sizes.get(name, size)) for name, size in self.axes)
        return dataclasses.replace(self, **first, axes=axes)


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh over all devices of all processes, or over `devices`.

    Of several TPU slices, each holds a part of the `data` axis.

    Raises:
      ValueError: if the sizes do not multiply to the number of devices, or slices cannot share the
        `data` axis evenly.
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = config.sizes(len(devices))
    # Explicit axes, a default elsewhere, would put shardings into the types of activations.
    auto = (jax.sharding.AxisType.Auto,) * len(sizes)
    return Mesh(_grid(sizes, devices), tuple(sizes), axis_types=auto)


def _grid(sizes: dict[str, int], devices: Sequence[jax.Device]) -> np.ndarray:
    """The devices, in an array of the sizes."""
    shape = tuple(sizes.values())
    if devices[0].platform != "tpu":
        # In JAX's order, the devices of a host are neighbours.
        return np.asarray(devices).reshape(shape)
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    # Axes lie along the torus where they fit, and across its dimensions where they do not.
    split = dict(allow_split_physical_axes=True)
    if slices == 1:
        return mesh_utils.create_device_mesh(shape, devices, **split)
    if sizes["data"] % slices:
        raise ValueError(
            f"data={sizes['data']} cannot be divided among {slices} slices; only data may run over "
            f"the network between slices, so it must be a multiple of {slices}"
        )
    between = {name: slices if name == "data" else 1 for name in sizes}
    within = tuple(size // between[name] for name, size in sizes.items())
    return mesh_utils.create_hybrid_device_mesh(within, tuple(between.values()), devices, **split)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Shards the leading axis over `data` and `fsdp`."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def batch_devices(mesh: Mesh) -> int:
    """How many parts a batch is cut into."""
    return math.prod(mesh.shape[name] for name in BATCH_AXES)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def local_rows(mesh: Mesh, size: int) -> tuple[int, ...]:
    """The rows of a batch of `size` that this process's devices hold, ascending.

    Processes whose devices hold the same part of the batch (every axis but `data` and `fsdp` may
    span processes) have the same rows.
    """
    indices = batch_sharding(mesh).addressable_devices_indices_map((size,)).values()
    return tuple(sorted({row for index in indices if index for row in range(size)[index[0]]}))


def put_batch(mesh: Mesh, batch: dict[str, np.ndarray], *, size: int) -> dict[str, jax.Array]:
    """Makes a global batch of `size` rows, sharded over the mesh, of each process's `local_rows`.

    No process waits for another.
    """
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, array, (size, *array.shape[1:]))
        for name, array in batch.items()
    }
