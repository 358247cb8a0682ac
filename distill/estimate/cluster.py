"""Nodes of GPUs by name, as far as a roofline needs to know them."""

import dataclasses
import math
import re
from typing import NamedTuple, cast

from jax.sharding import AbstractMesh, AxisType, Mesh

from distill.errors import UserError
from distill.parallel import MeshConfig
from distill.parallel.chips import CHIPS, Chip

# Of a GPU's memory; the rest is the driver's, the libraries' and what is fragmented.
USABLE = 0.9


class _Node(NamedTuple):
    chip: str
    """Its name in `distill.parallel.chips`."""
    link_bandwidth: float
    """Between a GPU and those of its node, in each direction, in bytes per second (NVLink)."""
    network_bandwidth: float
    """Between a GPU and those of other nodes, in each direction: an adapter for each GPU."""


# As NVIDIA publishes them of its DGX systems: 900 and 1800 GB/s both ways together, and adapters
# of 400 Gb/s.
_NODES = {
    "h100": _Node("H100 SXM", 450e9, 50e9),
    "h200": _Node("H200 SXM", 450e9, 50e9),
    "b200": _Node("B200 SXM", 900e9, 50e9),
}
_PER_NODE = 8
# GPUs that people have, and nothing here says how fast they are.
_NOT_KNOWN = ("a100", "v100", "a10", "a10g", "l4", "l40", "l40s", "t4", "b100", "b300", "gb200")


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Nodes of GPUs; devices are numbered node by node."""

    name: str
    chip: Chip
    per_node: int
    nodes: int
    link_bandwidth: float
    """See `_Node`."""
    network_bandwidth: float

    @property
    def chips(self) -> int:
        """In all nodes."""
        return self.per_node * self.nodes

    @property
    def device_count(self) -> int:
        """In all nodes; each GPU is one."""
        return self.chips

    @property
    def hbm_bytes(self) -> int:
        """Of each GPU, for a program to use."""
        return int(self.chip.hbm_bytes * USABLE)

    def mesh(self, config: MeshConfig) -> Mesh:
        """The mesh over all GPUs, without GPUs.

        Raises:
          ValueError: if the sizes do not multiply to the number of GPUs.
        """
        return abstract_mesh(config, self.chips)


def abstract_mesh(config: MeshConfig, devices: int) -> Mesh:
    """What `distill.parallel.make_mesh` makes of devices, where there are none.

    Raises:
      ValueError: if the sizes do not multiply to the number of devices.
    """
    sizes = config.sizes(devices)
    auto = (AxisType.Auto,) * len(sizes)
    mesh = AbstractMesh(tuple(sizes.values()), tuple(sizes), axis_types=auto)
    # Its axes and shardings are all that is asked of it where nothing is compiled.
    return cast(Mesh, mesh)


def names_cluster(name: str) -> bool:
    """Whether a topology's name begins as that of GPUs."""
    return _gpu(name) in _NODES or name.partition(":")[0].lower() in _NOT_KNOWN


def _gpu(name: str) -> str:
    """The GPU that a name begins with, however it is written."""
    found = re.match(r"(?:nvidia-)?(?:\d+x)?([a-z]+\d+)(?=[:x_-]|$)", name.lower())
    return found[1] if found else ""


def _guess(name: str) -> str:
    """What a name that is no cluster's was probably meant to be."""
    gpu = _gpu(name)
    if gpu not in _NODES:
        return ""
    count = re.search(r"(?<=[:x-])\d+|\d+(?=x)", name.lower().replace(gpu, ":", 1))
    wanted = int(count[0]) if count else _PER_NODE
    nodes = max(round(wanted / _PER_NODE), 1)
    size = f"{_PER_NODE}x{nodes}" if wanted > _PER_NODE else str(max(wanted, 1))
    return f"; did you mean {gpu}:{size}?"


def open_cluster(name: str) -> Cluster:
    """The GPUs called `name`: "h100:8", or of four such nodes, "h100:8x4".

    Raises:
      UserError: for a name that is not known, or more GPUs than a node has.
    """
    found = re.fullmatch(r"(\w+):(\d+)(?:x(\d+))?", name)
    if not found or found[1] not in _NODES:
        raise UserError(
            f"unknown GPUs {name!r}; known are {', '.join(_NODES)}, such as h100:8, or of four "
            f"such nodes h100:8x4{_guess(name)}"
        )
    per_node, nodes = int(found[2]), int(found[3] or 1)
    if not 1 <= per_node <= _PER_NODE or nodes < 1 or (nodes > 1 and per_node < _PER_NODE):
        raise UserError(
            f"{name!r} cannot be: a node has 1 to {_PER_NODE} GPUs, and several nodes have "
            f"{_PER_NODE} each, such as {found[1]}:{_PER_NODE}x{max(nodes, 2)}"
        )
    node = _NODES[found[1]]
    return Cluster(
        name, CHIPS[node.chip], per_node, nodes, node.link_bandwidth, node.network_bandwidth
    )


def ring_seconds(cluster: Cluster, received: float, stride: int, size: int) -> float:
    """Seconds until every device of each group along a mesh axis has received so many bytes.

    Rings run through the GPUs of a node and on to the next, over all of the node's adapters at a
    time; the slower of both is what counts.

    Args:
      cluster: where.
      received: bytes that each device receives of the others of its group.
      stride: devices between neighbours of a group.
      size: devices of a group.
    """
    here = max(1, min(size, cluster.per_node // stride))
    nodes = math.ceil(size / here)
    within = received / cluster.link_bandwidth if here > 1 else 0.0
    if nodes == 1:
        return within
    # What a node's share of the group has not got between them comes in once, for all of them.
    # Every one of the groups that a node has parts of has its share of the adapters.
    outside = received * (nodes - 1) / nodes * size / (size - 1)
    return max(within, outside / (here * cluster.network_bandwidth))
