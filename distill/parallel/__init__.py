"""Device mesh and sharding rules."""

from distill.parallel.mesh import (
    MeshConfig,
    batch_devices,
    make_mesh,
    put_batch,
    replicated,
    shardings,
)

__all__ = [
    "MeshConfig",
    "batch_devices",
    "make_mesh",
    "put_batch",
    "replicated",
    "shardings",
]
