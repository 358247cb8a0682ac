"""Device mesh, sharding rules and what chips can do."""

from distill.parallel.chips import CHIPS, Chip, chip_of
from distill.parallel.mesh import (
    MeshConfig,
    batch_devices,
    make_mesh,
    put_batch,
    replicated,
    shardings,
)

__all__ = [
    "CHIPS",
    "Chip",
    "MeshConfig",
    "batch_devices",
    "chip_of",
    "make_mesh",
    "put_batch",
    "replicated",
    "shardings",
]
