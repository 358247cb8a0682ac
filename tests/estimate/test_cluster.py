"""GPUs by name, and rings through them."""

import pytest

from distill.errors import UserError
from distill.estimate.cluster import open_cluster, ring_seconds
from distill.estimate.machines import open_machine
from distill.parallel import MeshConfig

GB = 1e9


def test_a_name_says_how_many_gpus_there_are():
    found = open_machine("h200:8x4")
    assert (found.chips, found.device_count, found.per_node, found.nodes) == (32, 32, 8, 4)
    assert found.chip.name == "H200 SXM"
    assert found.hbm_bytes == int(0.9 * found.chip.hbm_bytes)
    assert open_cluster("b200:1").chips == 1
    assert dict(found.mesh(MeshConfig(data=-1, fsdp=8)).shape) == dict(data=4, fsdp=8, tensor=1)


@pytest.mark.parametrize(
    "name", ["h100", "h100:8x0", "h100:16", "h100:4x2", "h100:2x2x1", "a100:8"]
)
def test_other_names_are_explained(name):
    with pytest.raises(UserError, match="h100:8"):
        open_cluster(name)


def test_a_group_within_a_node_has_the_links_of_nvlink():
    node = open_cluster("h100:8")
    assert ring_seconds(node, 450 * GB, 1, 8) == pytest.approx(1.0)


def test_a_ring_over_nodes_shares_their_adapters():
    cluster = open_cluster("h100:8x4")
    # Of two nodes of the new kind, each takes in 8 of 16 GB by 8 adapters of 50 GB/s.
    assert ring_seconds(open_cluster("b200:8x2"), 15 * GB, 1, 16) == pytest.approx(8 / 400)
    # Of four replicas each node has one of every group: one adapter, 3 GB of 4.
    assert ring_seconds(cluster, 3 * GB, 8, 4) == pytest.approx(3 / 50)


def test_links_within_a_node_can_be_what_counts():
    # 16 GPUs gather 16 GB: 15 by NVLink take longer than 8 by 8 adapters.
    assert ring_seconds(open_cluster("h100:8x2"), 15 * GB, 1, 16) == pytest.approx(15 / 450)
