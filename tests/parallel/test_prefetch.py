"""Rings that gather and scatter, and the scan that hides them, on eight devices."""

import json
import os
import subprocess
import sys

import pytest

EIGHT_DEVICES = """
import json

import jax

jax.config.update("jax_num_cpu_devices", 8)

import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from distill.parallel import MeshConfig, batch_sharding, make_mesh
from distill.parallel.prefetch import ring_gather, ring_scatter
from teachers import vit_22b

facts = {"rings": {}, "networks": {}}


def rings(devices, dim):
    mesh = make_mesh(MeshConfig(data=1, fsdp=devices), jax.devices()[:devices])
    whole = np.random.default_rng(0).random((24, 5, 48), np.float32)
    each = np.random.default_rng(1).random((devices, 24, 5, 48), np.float32)
    cut = P(*(["fsdp" if d == dim else None for d in range(3)]))

    def gather(part):
        return ring_gather(part, dim)[None]

    def scatter(array):
        return ring_scatter(array[0], dim)

    def run(f, x, inside, outside):
        mapped = jax.shard_map(f, mesh=mesh, in_specs=inside, out_specs=outside, check_vma=False)
        return np.asarray(jax.jit(mapped)(x))

    gathered = run(gather, whole, cut, P("fsdp"))
    scattered = run(scatter, each, P("fsdp"), cut)
    return [bool((gathered == whole).all()), float(abs(scattered - each.sum(0)).max())]


for devices in (2, 3, 4, 6, 8):
    facts["rings"][devices] = [rings(devices, dim) for dim in (0, 2)]


def run(prefetch, data, fsdp, tensor=1, dtype="float32"):
    mesh = make_mesh(MeshConfig(data=data, fsdp=fsdp, tensor=tensor))
    sizes = dict(width=64, depth=3, mlp_dim=128, heads=4, image_size=28, num_classes=8)
    config = vit_22b.configure("22B/14", **sizes, dtype=dtype, prefetch=prefetch)
    network = vit_22b.build(config).placed(mesh)
    params = jax.jit(network.init, out_shardings=network.shardings)(jax.random.key(0))
    kernel = params["classifier"]["kernel"]
    params["classifier"]["kernel"] = jax.random.normal(jax.random.key(3), kernel.shape)
    images = jax.random.normal(jax.random.key(1), (16, 28, 28, 3))
    images = jax.device_put(images, batch_sharding(mesh))

    def loss(params):
        return jnp.mean(jnp.square(network.apply(params, images).logits))

    value, gradients = jax.jit(jax.value_and_grad(loss))(params)
    return float(value), jax.tree.map(np.asarray, gradients["encoder"])


def difference(a, b):
    # Relative to the largest entry of each gradient.
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(abs(x - y).max() / abs(x).max()) for x, y in pairs)


loss, gradients = run(False, 8, 1)
for data, fsdp in ((1, 8), (2, 4), (4, 2)):
    found, there = run(True, data, fsdp)
    facts["networks"][f"{data}x{fsdp}"] = [abs(found - loss) / loss, difference(gradients, there)]
loss, gradients = run(False, 1, 8, dtype="bfloat16")
found, there = run(True, 1, 8, dtype="bfloat16")
facts["bfloat16"] = [abs(found - loss) / loss, difference(gradients, there)]
try:
    run(True, 1, 4, 2)
except ValueError as error:
    facts["tensor"] = str(error)
print(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def facts():
    """What a process with eight devices finds."""
    done = subprocess.run(
        [sys.executable, "-c", EIGHT_DEVICES],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("devices", ["2", "3", "4", "6", "8"])
def test_rings_gather_exactly_and_scatter_sums(facts, devices):
    for gathers_exactly, difference in facts["rings"][devices]:
        assert gathers_exactly
        assert difference < 1e-5


@pytest.mark.parametrize("mesh", ["1x8", "2x4", "4x2"])
def test_prefetching_changes_neither_loss_nor_gradients(facts, mesh):
    loss, gradients = facts["networks"][mesh]
    assert loss < 1e-6
    assert gradients < 1e-4


def test_prefetching_in_bfloat16_agrees_to_its_precision(facts):
    loss, gradients = facts["bfloat16"]
    assert loss < 2e-2
    assert gradients < 0.1


def test_prefetching_over_a_tensor_axis_is_refused(facts):
    assert "config.mesh.tensor=1" in facts["tensor"]
