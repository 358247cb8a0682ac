"""Device mesh and sharding rules, and runs of several processes."""

from distill.parallel.mesh import (
    MeshConfig,
    batch_devices,
    local_rows,
    make_mesh,
    put_batch,
    replicated,
    shardings,
)

__all__ = [
    "MeshConfig",
    "batch_devices",
    "local_rows",
    "make_mesh",
    "put_batch",
    "replicated",
    "shardings",
]
