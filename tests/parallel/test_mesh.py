import dataclasses
import json

import jax
import pytest
from support import run_python

from distill.parallel import MeshConfig, batch_devices, make_mesh, replicated

EIGHT_DEVICES = """
import json

import jax

jax.config.update("jax_num_cpu_devices", 8)

import numpy as np

from distill.parallel import (
    MeshConfig, batch_devices, local_rows, make_mesh, put_batch, replicated, shardings)

facts = {"devices": len(jax.devices())}


def parts(config, parameters):
    mesh = make_mesh(config)
    abstract = {k: jax.ShapeDtypeStruct(shape, "float32") for k, (shape, _) in parameters.items()}
    axes = {k: names for k, (_, names) in parameters.items()}
    found = shardings(mesh, abstract, axes)
    values = {k: np.random.default_rng(0).random(v.shape, "float32") for k, v in abstract.items()}
    placed = jax.device_put(values, found)
    assert all((np.asarray(placed[k]) == values[k]).all() for k in values)
    return {k: list(array.addressable_shards[0].data.shape) for k, array in placed.items()}


cube = MeshConfig(data=2, fsdp=2, tensor=2)
facts["parts"] = parts(cube, {
    "kernel": ((8, 6), ("embed", "mlp")),
    "odd_embed": ((7, 6), ("embed", "mlp")),
    "odd_mlp": ((8, 5), ("embed", "mlp")),
    "odd": ((7, 5), ("embed", "mlp")),
    "stacked": ((4, 8, 6), ("layers", "embed", "mlp")),
    "attention": ((8, 4, 2), ("embed", "heads", "head_dim")),
    "classifier": ((8, 10), ("embed", "classes")),
    "square": ((8, 8), ("embed", "embed")),
    "half_square": ((7, 8), ("embed", "embed")),
    "tokens": ((16, 8), ("tokens", "embed")),
    "unnamed": ((8, 8), (None, None)),
    "scalar": ((), ()),
})
facts["data_only"] = parts(MeshConfig(), {"kernel": ((8, 6), ("embed", "mlp"))})
facts["fsdp_8"] = parts(MeshConfig(data=1, fsdp=8), {
    "a": ((16, 6), ("embed", "mlp")),
    "b": ((12, 6), ("embed", "mlp")),
})


def sizes(mesh):
    return {axis: mesh.shape[axis] for axis in ("data", "fsdp", "tensor")}


facts["shapes"] = [
    sizes(make_mesh(config))
    for config in (MeshConfig(), MeshConfig(data=1, fsdp=-1), MeshConfig(tensor=4), cube)]
facts["batch_devices"] = [batch_devices(make_mesh(c)) for c in (MeshConfig(), cube)]
facts["four"] = sizes(make_mesh(MeshConfig(fsdp=2), jax.devices()[:4]))

batch = {"image": np.arange(8 * 3 * 3).reshape(8, 3, 3).astype("uint8"), "label": np.arange(8)}
placed = put_batch(make_mesh(cube), batch, size=8)
facts["local_rows"] = local_rows(make_mesh(cube), 8)
facts["batch"] = {k: [list(v.shape), list(v.addressable_shards[0].data.shape), len(v.devices())]
                  for k, v in placed.items()}
facts["batch_values"] = all((np.asarray(placed[k]) == batch[k]).all() for k in batch)
rows = {}
for shard in placed["label"].addressable_shards:
    rows.setdefault(shard.index[0].start, []).append(np.asarray(shard.data).tolist())
facts["rows"] = sorted(rows.values())
whole = jax.device_put(np.ones((8, 8)), replicated(make_mesh(cube)))
facts["replicated"] = [list(s.data.shape) for s in whole.addressable_shards]
try:
    make_mesh(MeshConfig(data=3, tensor=2))
except ValueError as error:
    facts["error"] = str(error)
print(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def facts():
    """What a process with eight devices finds."""
    done = run_python("-c", EIGHT_DEVICES, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["devices"] == 8
    return found


@pytest.mark.parametrize(
    "sizes, devices, filled",
    [
        ((-1, 1, 1), 1, (1, 1, 1)),
        ((-1, 1, 1), 8, (8, 1, 1)),
        ((-1, 2, 2), 8, (2, 2, 2)),
        ((1, -1, 1), 8, (1, 8, 1)),
        ((2, 1, -1), 8, (2, 1, 4)),
        ((2, 2, 2), 8, (2, 2, 2)),
        ((-1, 4, 2), 8, (1, 4, 2)),
    ],
)
def test_minus_one_takes_the_devices_that_are_left(sizes, devices, filled):
    data, fsdp, tensor = sizes
    sizes = MeshConfig(data=data, fsdp=fsdp, tensor=tensor).sizes(devices)
    assert tuple(sizes[axis] for axis in ("data", "fsdp", "tensor")) == filled


@pytest.mark.parametrize(
    "sizes, devices",
    [((3, 1, 1), 8), ((-1, 3, 1), 8), ((2, 2, 1), 8), ((-1, 16, 1), 8), ((16, 1, 1), 8)],
)
def test_sizes_that_do_not_fill_the_devices_name_their_number(sizes, devices):
    data, fsdp, tensor = sizes
    message = rf"data={data}, fsdp={fsdp}, tensor={tensor}\b.*8 device"
    with pytest.raises(ValueError, match=message):
        MeshConfig(data=data, fsdp=fsdp, tensor=tensor).sizes(devices)


@pytest.mark.parametrize("sizes", [(0, 1, 1), (-2, 1, 1), (-1, -1, 1), (1, -1, -1), (1, 1, 0)])
def test_impossible_sizes_are_refused(sizes):
    data, fsdp, tensor = sizes
    with pytest.raises(ValueError, match=r"must be positive, one may be -1|from -1 to"):
        MeshConfig(data=data, fsdp=fsdp, tensor=tensor)


def test_default_mesh_is_all_devices_as_replicas():
    mesh = make_mesh(MeshConfig())
    assert mesh.shape["data"] == mesh.size == len(jax.devices())
    assert batch_devices(mesh) == len(jax.devices())
    assert replicated(mesh).is_fully_replicated


def test_eight_devices_are_laid_out_as_asked(facts):
    assert facts["shapes"] == [
        {"data": 8, "fsdp": 1, "tensor": 1},
        {"data": 1, "fsdp": 8, "tensor": 1},
        {"data": 2, "fsdp": 1, "tensor": 4},
        {"data": 2, "fsdp": 2, "tensor": 2},
    ]
    assert facts["four"] == {"data": 2, "fsdp": 2, "tensor": 1}


def test_mesh_that_does_not_fit_names_the_number_of_devices(facts):
    assert "8 device" in facts["error"] and "data=3" in facts["error"]


def test_batch_is_cut_over_data_and_fsdp(facts):
    assert facts["batch_devices"] == [8, 4]
    assert facts["batch"] == {
        "image": [[8, 3, 3], [2, 3, 3], 8],
        "label": [[8], [2], 8],
    }
    assert facts["batch_values"]
    assert facts["local_rows"] == list(range(8))


def test_every_tensor_device_sees_the_same_part_of_the_batch(facts):
    assert facts["rows"] == [[[i, i + 1]] * 2 for i in range(0, 8, 2)]


def test_replicated_values_are_whole_on_every_device(facts):
    assert facts["replicated"] == [[8, 8]] * 8


@pytest.mark.parametrize(
    "name, part",
    [
        ("kernel", [4, 3]),
        ("stacked", [4, 4, 3]),
        ("attention", [4, 2, 2]),
        ("classifier", [4, 5]),
        ("tokens", [16, 4]),
        ("unnamed", [8, 8]),
        ("scalar", []),
    ],
)
def test_parameters_are_cut_along_their_logical_axes(facts, name, part):
    assert facts["parts"][name] == part


@pytest.mark.parametrize(
    "name, part", [("odd_embed", [7, 3]), ("odd_mlp", [4, 5]), ("odd", [7, 5])]
)
def test_axes_that_do_not_divide_are_dropped(facts, name, part):
    assert facts["parts"][name] == part
    assert facts["fsdp_8"] == {"a": [2, 6], "b": [12, 6]}


@pytest.mark.parametrize("name, part", [("square", [4, 8]), ("half_square", [7, 4])])
def test_a_mesh_axis_is_used_once_in_a_parameter(facts, name, part):
    assert facts["parts"][name] == part


def test_replicas_hold_whole_parameters(facts):
    assert facts["data_only"] == {"kernel": [8, 6]}


@dataclasses.dataclass(frozen=True)
class SliceDevice:
    """What the layout of several slices asks of a device."""

    id: int
    slice_index: int
    process_index: int
    platform: str = "tpu"
    device_kind: str = "fake"
    core_on_chip: int = 0

    @property
    def coords(self):
        return (self.id % 2, self.id // 2 % 2, 0)


def test_slices_share_the_data_axis_alone():
    devices = [SliceDevice(i, i // 4, i // 2) for i in range(8)]
    mesh = make_mesh(MeshConfig(data=4, fsdp=2), devices)
    slices = [[device.slice_index for device in part.flat] for part in mesh.devices]
    assert slices == [[0, 0], [0, 0], [1, 1], [1, 1]]
    with pytest.raises(ValueError, match="data=1 cannot be divided among 2 slices"):
        make_mesh(MeshConfig(data=1, fsdp=8), devices)


def test_hosts_of_a_gpu_cluster_are_no_slices():
    # JAX numbers them as if they were.
    devices = [SliceDevice(i, i // 4, i // 4, platform="gpu") for i in range(8)]
    mesh = make_mesh(MeshConfig(data=1, fsdp=4, tensor=2), devices)
    assert [device.id for device in mesh.devices.flat] == list(range(8))
