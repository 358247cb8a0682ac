"""Device mesh, sharding rules and linear maps that overlap their transfers."""

from distill.parallel.linear import column_parallel, row_parallel
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
    "column_parallel",
    "make_mesh",
    "put_batch",
    "replicated",
    "row_parallel",
    "shardings",
]
