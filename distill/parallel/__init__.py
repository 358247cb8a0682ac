"""Device mesh, sharding rules and what is known of devices."""

from distill.parallel.chips import CHIPS, Chip, chip_of
from distill.parallel.mesh import (
    MESH_AXES,
    MeshConfig,
    batch_devices,
    batch_sharding,
    make_mesh,
    put_batch,
    replicated,
)
from distill.parallel.rules import (
    DEFAULT_RULES,
    Rules,
    constrain,
    current_device,
    current_platform,
    map_shards,
    override_rules,
    partition_spec,
    sharding_context,
    shardings,
)

__all__ = [
    "CHIPS",
    "DEFAULT_RULES",
    "MESH_AXES",
    "Chip",
    "MeshConfig",
    "Rules",
    "batch_devices",
    "batch_sharding",
    "chip_of",
    "constrain",
    "current_device",
    "current_platform",
    "make_mesh",
    "map_shards",
    "override_rules",
    "partition_spec",
    "put_batch",
    "replicated",
    "sharding_context",
    "shardings",
]
