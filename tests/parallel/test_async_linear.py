"""Rings of products against ordinary ones: values, gradients, and the schedule on a TPU."""

import importlib.util

import jax.numpy as jnp
import numpy as np
import pytest
from support import run_script

from distill.config import ConfigError, resolve
from distill.estimate import topology
from distill.nn.family import ModelConfig
from distill.parallel import column_parallel, row_parallel
from teachers import vit_22b

pytestmark = pytest.mark.slow

EIGHT_DEVICES = """
import functools
import json

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_disable_most_optimizations", True)  # compiling is nearly all the time

import jax.numpy as jnp
import numpy as np
from flax import nnx

from distill.parallel import MeshConfig, column_parallel, make_mesh, row_parallel
from teachers import vit_22b

facts = {}
rng = np.random.default_rng(0)


def normal(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def errors(found, expected):
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    return [float(np.abs(f - e).max() / np.abs(e).max())
            for f, e in ((np.asarray(f), np.asarray(e)) for f, e in pairs)]


def dense_row(x, weights):
    return [jnp.tensordot(x, w, 1) for w in weights]


def dense_column(xs, weights):
    return sum(jnp.tensordot(x, w, w.ndim - 1) for x, w in zip(xs, weights))


def with_gradients(function):
    def both(x, weights, dy):
        y, pull = jax.vjp(function, x, weights)
        return y, pull(dy)

    return both


MESHES = {2: dict(data=2, fsdp=2, tensor=2), 4: dict(data=1, fsdp=2, tensor=4),
          8: dict(data=1, tensor=8)}
ROW = normal(4, 3, 24), (normal(24, 40), normal(24, 8, 3))
ROW += ([normal(4, 3, 40), normal(4, 3, 8, 3)],)
COLUMN = (normal(4, 3, 40), normal(4, 3, 8, 3)), (normal(40, 24), normal(8, 3, 24))
COLUMN += (normal(4, 3, 24),)
cases = {"row": (row_parallel, dense_row, ROW), "column": (column_parallel, dense_column, COLUMN)}
for form, (ring, dense, arguments) in cases.items():
    expected = jax.jit(with_gradients(dense))(*arguments)
    for k, sizes in MESHES.items():
        # One way around on one of them; compiling a ring of eight takes its time.
        for directions in (1, 2) if k == 2 else (2,):
            with jax.set_mesh(make_mesh(MeshConfig(**sizes))):
                run = functools.partial(ring, directions=directions)
                compiled = jax.jit(with_gradients(run)).lower(*arguments).compile()
                found = compiled(*arguments)
                facts[f"{form} {k} {directions}"] = {
                    "errors": errors(found, expected),
                    "permutes": compiled.as_text().count(" collective-permute("),
                }

with jax.set_mesh(make_mesh(MeshConfig(**MESHES[2]))):
    for form, (ring, _, (x, weights, _)) in cases.items():
        pull = jax.eval_shape(lambda x, weights: jax.vjp(ring, x, weights)[1], x, weights)
        kept = jax.tree.leaves(pull)
        given = jax.tree.leaves((x, weights))
        facts[f"kept {form}"] = [sum(a.size for a in kept), sum(a.size for a in given)]

shape = dict(width=32, depth=1, mlp_dim=64, heads=8, image_size=8, num_classes=5)


def block_function(**choices):
    config = vit_22b.configure("22B/4", **shape, **choices)
    graphdef, state = nnx.split(
        nnx.eval_shape(lambda: vit_22b.ParallelBlock(config, rngs=nnx.Rngs(0))))
    return (lambda x, params: nnx.merge(graphdef, params)(x)), nnx.to_pure_dict(state)


block, abstract = block_function()
params = jax.tree.map(lambda leaf: np.float32(0.3) * normal(*leaf.shape), abstract)
arguments = normal(4, 5, 32), params, normal(4, 5, 32)
expected = jax.jit(with_gradients(block))(*arguments)
facts["smallest"] = min(float(np.abs(np.asarray(leaf)).max()) for leaf in jax.tree.leaves(expected))
block, _ = block_function(async_linear=True)
with jax.set_mesh(make_mesh(MeshConfig(**MESHES[2]))):
    compiled = jax.jit(with_gradients(block)).lower(*arguments).compile()
    facts["block"] = {
        "errors": errors(compiled(*arguments), expected),
        "permutes": compiled.as_text().count(" collective-permute("),
    }

refused = {
    "row features": lambda: row_parallel(normal(8, 20), [normal(20, 16)]),
    "row output": lambda: row_parallel(normal(8, 16), [normal(16, 20)]),
    "column features": lambda: column_parallel([normal(8, 20)], [normal(20, 16)]),
    "column output": lambda: column_parallel([normal(8, 16)], [normal(16, 20)]),
}
with jax.set_mesh(make_mesh(MeshConfig(**MESHES[8]))):
    for name, call in refused.items():
        try:
            facts[name] = str(call())
        except ValueError as error:
            facts[name] = str(error)
with jax.set_mesh(make_mesh(MeshConfig(**MESHES[2]))):
    try:
        row_parallel(normal(6, 16), [normal(16, 16)])
    except ValueError as error:
        facts["batch"] = str(error)
print(json.dumps(facts))
"""

# Each function is compiled alone: in one program, equal transfers of both passes become one.
TPU = """
import json
import re

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from distill.parallel import column_parallel, row_parallel

MESH_AXES = ("data", "fsdp", "tensor")

topology = topologies.get_topology_desc(
    platform="tpu", topology_name="v4:2x2x1", chip_config_name="megacore",
    chips_per_host_bounds=(2, 2, 1), num_slices=1)
devices = topologies.make_mesh(topology, (1, 1, 4), MESH_AXES).devices
mesh = Mesh(devices, MESH_AXES, axis_types=(AxisType.Auto,) * 3)


def bfloat16(*shape, spec):
    sharding = NamedSharding(mesh, PartitionSpec(*spec))
    return jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=sharding)


narrow = bfloat16(16, 256, 2048, spec=("data", None, "tensor"))
wide = bfloat16(16, 256, 8192, spec=("data", None, "tensor"))
up = bfloat16(2048, 8192, spec=(None, "tensor"))
down = bfloat16(8192, 2048, spec=("tensor", None))


def row(x, w):
    return row_parallel(x, [w])[0]


def column(x, w):
    return column_parallel([x], [w])


def backward(function):
    return lambda x, w, dy: jax.vjp(function, x, w)[1](dy)


def overlap(text):
    "For each permute, its neighbour and how many products run while it is on its way."
    bodies = {m[1]: m[2] for m in re.finditer(r"^%(\\S+) [^\\n]*{\\n(.*?)^}", text, re.M | re.S)}
    entry = text[text.index("\\nENTRY"):].splitlines()
    flying, permutes = {}, []
    for line in entry:
        if m := re.match(r"\\s*(?:ROOT )?%(\\S+) = .* collective-permute-start\\(", line):
            flying[m[1]] = [re.search(r"source_target_pairs=(\\{\\{.*?\\}\\})", line)[1], 0]
        elif m := re.search(r" collective-permute-done\\(.*?%([\\w.\\-]+)\\)", line):
            permutes.append(flying.pop(m[1]))
        elif (m := re.search(r"calls=%([\\w.\\-]+)", line)) and " convolution(" in bodies[m[1]]:
            for permute in flying.values():
                permute[1] += 1
    assert not flying
    return permutes


programs = {
    "row forward": (row, (narrow, up)),
    "row backward": (backward(row), (narrow, up, wide)),
    "column forward": (column, (wide, down)),
    "column backward": (backward(column), (wide, down, narrow)),
}
with jax.set_mesh(mesh):
    found = {
        name: overlap(jax.jit(function).lower(*arguments).compile().as_text())
        for name, (function, arguments) in programs.items()
    }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def facts():
    """What a process with eight devices finds."""
    return run_script(EIGHT_DEVICES)


@pytest.fixture(scope="module")
def schedule(tpu_compiler):
    """What the TPU compiler makes of the rings, without a TPU."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed")
    return run_script(TPU, **topology.ENVIRONMENT)


@pytest.mark.parametrize("form", ["row", "column"])
@pytest.mark.parametrize("k, directions", [(2, 1), (2, 2), (4, 2), (8, 2)])
def test_rings_equal_dense_products_and_their_gradients(facts, form, k, directions):
    found = facts[f"{form} {k} {directions}"]
    assert max(found["errors"]) < 1e-5
    assert found["permutes"] >= 2 * (k - 1) * directions


@pytest.mark.parametrize("form", ["row", "column"])
def test_nothing_that_travelled_is_kept_for_the_backward_pass(facts, form):
    kept, given = facts[f"kept {form}"]
    assert kept == given


def test_block_is_the_same_with_asynchronous_products(facts):
    assert facts["smallest"] > 0
    assert max(facts["block"]["errors"]) < 1e-5
    # Forward and backward, in and out, both ways around; XLA's own layout would need fewer.
    assert facts["block"]["permutes"] >= 10


@pytest.mark.parametrize(
    "name, size",
    [("row features", 20), ("row output", 20), ("column features", 20), ("column output", 20)],
)
def test_features_that_a_ring_cannot_share_are_refused(facts, name, size):
    assert f"is {size}, which 8 devices" in facts[name]
    assert "use a multiple of 8" in facts[name]


def test_a_batch_that_the_mesh_cannot_share_is_refused(facts):
    assert "batch of 6" in facts["batch"] and "use a multiple of 4" in facts["batch"]


@pytest.mark.parametrize(
    "program, permutes",
    [
        ("row forward", 6),
        ("row backward", 12),
        ("column forward", 12),
        ("column backward", 6),
    ],
)
def test_products_run_while_a_tpu_transfers(schedule, program, permutes):
    found = schedule[program]
    assert len(found) == permutes
    assert len({neighbour for neighbour, _ in found}) == 2
    assert all(products > 0 for _, products in found), found


def test_without_a_mesh_products_are_dense():
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.standard_normal(s), jnp.float32) for s in ((3, 5), (5, 7)))
    np.testing.assert_array_equal(row_parallel(x, [w])[0], x @ w)
    np.testing.assert_array_equal(column_parallel([x, x], [w, w]), x @ w + x @ w)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x: row_parallel(x, [x]), r"\(4, 6\) and a weight of shape \(4, 6\)"),
        (lambda x: row_parallel(x, [x.T], directions=3), "must be 1 or 2, not 3"),
        (lambda x: column_parallel([x], [x]), r"shapes \(4, 6\) and \(4, 6\)"),
        (lambda x: column_parallel([x], []), "one weight for each x; got 1 and 0"),
        (lambda x: column_parallel([x, x.T], [x.T, x]), r"these have \[\(4, 4\), \(6, 6\)\]"),
    ],
)
def test_operands_that_do_not_fit_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.ones((4, 6)))


@pytest.mark.parametrize("choice", [{"fused": True}, {"parallel": False}])
def test_layouts_without_asynchronous_products_are_refused(choice):
    with pytest.raises(ValueError, match="async_linear"):
        vit_22b.configure("22B/14", async_linear=True, **choice)


def test_asynchronous_products_are_a_choice_of_vit_22b_alone():
    choices = {"async_linear": True, "num_classes": 2}
    config = resolve(ModelConfig, {"family": "vit_22b", "variant": "22B/14"} | choices)
    assert config.network().config.async_linear
    with pytest.raises(ConfigError, match="async_linear belongs to family vit_22b, not to vit"):
        resolve(ModelConfig, {"family": "vit", "variant": "B/16"} | choices)
