"""Mesh, sharding rules, overlapped linear maps, chips, and runs of several processes."""

from distill.parallel.chips import CHIPS, Chip, chip_of
from distill.parallel.flight import IN_FLIGHT, Flight, in_flight
from distill.parallel.linear import column_parallel, row_parallel
from distill.parallel.mesh import (
    MeshConfig,
    batch_devices,
    batch_sharding,
    local_rows,
    make_mesh,
    put_batch,
    replicated,
)
from distill.parallel.rules import (
    DEFAULT_RULES,
    Axes,
    ParameterRules,
    Rules,
    RuleTable,
    constrain,
    current_device,
    current_platform,
    map_shards,
    materialize,
    mesh_axes,
    override_rules,
    partition_spec,
    sharding_context,
    shardings,
)

__all__ = [
    "CHIPS",
    "DEFAULT_RULES",
    "IN_FLIGHT",
    "Axes",
    "Chip",
    "Flight",
    "MeshConfig",
    "ParameterRules",
    "RuleTable",
    "Rules",
    "batch_devices",
    "batch_sharding",
    "chip_of",
    "column_parallel",
    "constrain",
    "current_device",
    "current_platform",
    "in_flight",
    "local_rows",
    "make_mesh",
    "map_shards",
    "materialize",
    "mesh_axes",
    "override_rules",
    "partition_spec",
    "put_batch",
    "replicated",
    "row_parallel",
    "sharding_context",
    "shardings",
]
