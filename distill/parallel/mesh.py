"""The device mesh, and batches cut over it."""

import dataclasses
import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from distill.parallel.rules import DEFAULT_RULES, MESH_AXES, Rules, override_rules


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Sizes of the mesh axes; one of them may be −1 and takes all devices that are left.

    Raises:
      ValueError: for sizes that are neither positive nor a single −1, or rules that cannot be.
    """

    data: int = -1
    """Replicas: each holds all parameters and a part of the batch."""
    fsdp: int = 1
    """Each holds a part of every parameter that can be divided and a part of the batch."""
    tensor: int = 1
    """Each computes a part of every matrix product on the same part of the batch."""
    rules: Rules = ()
    """(logical axis, mesh axes) pairs in place of the defaults in `distill.parallel.rules`, such
    as (("residual", ()),)."""

    def __post_init__(self):
        override_rules(self.rules)
        sizes = (self.data, self.fsdp, self.tensor)
        if any(size < 1 and size != -1 for size in sizes) or sizes.count(-1) > 1:
            raise ValueError(
                f"mesh sizes (data, fsdp, tensor) must be positive, one may be -1; not {sizes}"
            )

    @property
    def table(self) -> Rules:
        """The whole table of rules."""
        return override_rules(self.rules)

    def sizes(self, devices: int) -> tuple[int, int, int]:
        """Sizes of data, fsdp and tensor on so many devices.

        Raises:
          ValueError: if they do not multiply to the number of devices.
        """
        sizes = (self.data, self.fsdp, self.tensor)
        fixed = math.prod(size for size in sizes if size != -1)
        filled = tuple(devices // fixed if size == -1 else size for size in sizes)
        if math.prod(filled) != devices:
            raise ValueError(
                f"mesh data={self.data}, fsdp={self.fsdp}, tensor={self.tensor} does not fill "
                f"{devices} device(s); the sizes must multiply to {devices}"
            )
        return filled


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh over all devices of all processes, or over `devices`.

    Of several TPU slices, each holds a part of the `data` axis.

    Raises:
      ValueError: if the sizes do not multiply to the number of devices, or slices cannot share the
        `data` axis evenly.
    """
    devices = jax.devices() if devices is None else list(devices)
    # Explicit axes, a default elsewhere, would put shardings into the types of activations.
    auto = (jax.sharding.AxisType.Auto,) * len(MESH_AXES)
    data, fsdp, tensor = config.sizes(len(devices))
    if devices[0].platform != "tpu":
        # In JAX's order, the devices of a host are neighbours.
        return Mesh(np.asarray(devices).reshape(data, fsdp, tensor), MESH_AXES, axis_types=auto)
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    # Axes lie along the torus where they fit, and across its dimensions where they do not.
    split = dict(allow_split_physical_axes=True)
    if slices == 1:
        grid = mesh_utils.create_device_mesh((data, fsdp, tensor), devices, **split)
        return Mesh(grid, MESH_AXES, axis_types=auto)
    if data % slices:
        raise ValueError(
            f"data={data} cannot be divided among {slices} slices; only data may run over the "
            f"network between slices, so it must be a multiple of {slices}"
        )
    within = (data // slices, fsdp, tensor)
    grid = mesh_utils.create_hybrid_device_mesh(within, (slices, 1, 1), devices, **split)
    return Mesh(grid, MESH_AXES, axis_types=auto)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Shards the leading axis over `data` and `fsdp`."""
    return NamedSharding(mesh, PartitionSpec(dict(DEFAULT_RULES)["batch"]))


def batch_devices(mesh: Mesh) -> int:
    """How many parts a batch is cut into."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def local_rows(mesh: Mesh, size: int) -> tuple[int, ...]:
    """The rows of a batch of `size` that this process's devices hold, ascending.

    Processes whose devices hold the same part of the batch (`tensor` may span processes) have the
    same rows.
    """
    slices = batch_sharding(mesh).addressable_devices_indices_map((size,)).values()
    return tuple(sorted({row for (part,) in slices for row in range(size)[part]}))


def put_batch(mesh: Mesh, batch: dict[str, np.ndarray], *, size: int) -> dict[str, jax.Array]:
    """Makes a global batch of `size` rows, sharded over the mesh, of each process's `local_rows`.

    No process waits for another.
    """
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, array, (size, *array.shape[1:]))
        for name, array in batch.items()
    }
