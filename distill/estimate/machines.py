"""What a plan can be made for, by name: slices of TPUs and nodes of GPUs."""

from distill.estimate.cluster import Cluster, names_cluster, open_cluster
from distill.estimate.topology import Topology, open_topology

Machine = Topology | Cluster


def open_machine(name: str) -> Machine:
    """The machine called `name`, such as "v4:8x8x16" or "h100:8x4".

    Raises:
      UserError: for a name that is not known; of TPUs, without libtpu.
    """
    return open_cluster(name) if names_cluster(name) else open_topology(name)
