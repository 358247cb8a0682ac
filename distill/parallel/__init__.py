"""Device mesh and sharding rules."""

from distill.parallel.mesh import (
    MESH_AXES,
    MeshConfig,
    batch_devices,
    make_mesh,
    put_batch,
    replicated,
)
from distill.parallel.rules import (
    DEFAULT_RULES,
    Rules,
    constrain,
    override_rules,
    partition_spec,
    sharding_context,
    shardings,
)

__all__ = [
    "DEFAULT_RULES",
    "MESH_AXES",
    "MeshConfig",
    "Rules",
    "batch_devices",
    "constrain",
    "make_mesh",
    "override_rules",
    "partition_spec",
    "put_batch",
    "replicated",
    "sharding_context",
    "shardings",
]
