"""Attention kernels: same numbers as the plain one, picked where they can run."""

import importlib.util
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import run_script

from distill.config import resolve
from distill.estimate import topology
from distill.nn import count_flops, kernels
from distill.nn.family import ModelConfig
from distill.nn.kernels import attend, choose, splash
from distill.parallel import current_device, current_platform, make_mesh, sharding_context
from distill.parallel.mesh import MeshConfig
from distill.parallel.rules import DEFAULT_RULES
from teachers import vit_22b


def shape(tokens=256, head_dim=64, dtype="bfloat16"):
    return jax.ShapeDtypeStruct((2, tokens, 4, head_dim), dtype)


def pretend(monkeypatch, platform, **attributes):
    """Makes `kernels` believe in another device."""
    device = types.SimpleNamespace(platform=platform, **attributes)
    monkeypatch.setattr(kernels, "current_device", lambda: device)


def compiled(function):
    """Compiling takes nearly all the time of these tests, and less without optimisation."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def value_and_gradients(function, *arrays):
    """The value and the gradients of q, k and v for a random cotangent, in float32."""
    *inputs, cotangent = arrays

    @compiled
    def run(*inputs):
        value, vjp = jax.vjp(function, *inputs)
        return value, *vjp(cotangent)

    return [np.asarray(x, np.float32) for x in run(*inputs)]


def random_arrays(dtype, *, tokens, keys, heads=1, head_dim, batch=2):
    rng = np.random.default_rng(0)
    return [
        jnp.asarray(rng.standard_normal((batch, size, heads, head_dim)), dtype)
        for size in (tokens, keys, keys, tokens)
    ]


@pytest.mark.parametrize(
    "dtype, tolerance, causal, sizes",
    [
        pytest.param(
            "float32",
            1e-5,
            False,
            dict(tokens=128, keys=768, head_dim=8, batch=1),
            marks=pytest.mark.slow,
        ),
        ("bfloat16", 2e-2, False, dict(tokens=128, keys=128, head_dim=128)),
        ("float32", 1e-5, True, dict(tokens=256, keys=256, head_dim=8, batch=1)),
    ],
)
def test_splash_computes_what_the_plain_kernel_computes(dtype, tolerance, causal, sizes):
    arrays = random_arrays(dtype, **sizes)
    actual = value_and_gradients(lambda *qkv: splash(*qkv, causal=causal, interpret=True), *arrays)
    expected = value_and_gradients(lambda *qkv: attend(*qkv, causal=causal), *arrays)
    for got, want in zip(actual, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * np.abs(want).max())


def test_splash_can_be_differentiated_within_a_checkpointed_scan():
    q, k, v, _ = random_arrays("float32", tokens=128, keys=128, head_dim=8, batch=1)

    def loss(kernel, q):
        layer = jax.checkpoint(lambda x, scale: (x + kernel(scale * x, k, v), None))
        return jnp.sum(jax.lax.scan(layer, q, jnp.asarray([1.0, 2.0]))[0] ** 2)

    actual = compiled(jax.grad(lambda q: loss(lambda *a: splash(*a, interpret=True), q)))(q)
    expected = compiled(jax.grad(lambda q: loss(attend, q)))(q)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    "tokens, block", [(128, 128), (256, 256), (512, 512), (640, 128), (768, 384), (1024, 512)]
)
def test_blocks_divide_the_sequence(tokens, block):
    assert kernels._block(tokens) == block


@pytest.mark.parametrize(
    "platform, dtype, tokens, head_dim, expected",
    [
        ("tpu", "bfloat16", 256, 128, "splash"),
        ("tpu", "float32", 1024, 64, "splash"),
        ("tpu", "bfloat16", 196, 64, "plain"),
        ("tpu", "bfloat16", 257, 64, "plain"),
        ("tpu", "float16", 256, 64, "plain"),
        ("tpu", "bfloat16", 256, 12, "plain"),
        ("tpu", "bfloat16", 256, 264, "plain"),
        ("gpu", "bfloat16", 196, 64, "cudnn"),
        ("gpu", "float16", 256, 128, "cudnn"),
        ("cuda", "bfloat16", 256, 104, "cudnn"),
        ("gpu", "bfloat16", 257, 64, "plain"),
        ("gpu", "float32", 256, 64, "plain"),
        ("gpu", "bfloat16", 256, 136, "plain"),
        ("gpu", "bfloat16", 256, 44, "plain"),
        ("cpu", "bfloat16", 256, 128, "plain"),
    ],
)
def test_auto_takes_the_kernel_that_can_run(
    monkeypatch, platform, dtype, tokens, head_dim, expected
):
    pretend(monkeypatch, platform, compute_capability="9.0")
    q = shape(tokens, head_dim, dtype)
    assert choose(q, q, "auto") == expected
    assert choose(q, q, "plain") == "plain"


@pytest.mark.parametrize("capability", ["7.0", "gfx90a", None])
def test_auto_stays_plain_on_gpus_without_the_kernel(monkeypatch, capability):
    pretend(monkeypatch, "gpu", compute_capability=capability)
    assert choose(shape(), shape(), "auto") == "plain"
    with pytest.raises(ValueError, match=f"compute capability is {capability}, expected 8.0"):
        choose(shape(), shape(), "cudnn")


@pytest.mark.parametrize(
    "kernel, platform, array, message",
    [
        ("splash", "cpu", shape(), "platform is 'cpu', expected 'tpu'"),
        ("splash", "tpu", shape(196), "q has 196 tokens, expected a multiple of 128"),
        ("splash", "tpu", shape(dtype="float16"), "float16, expected bfloat16 or float32"),
        ("splash", "tpu", shape(head_dim=12), "head_dim is 12, expected a multiple of 8 up to 256"),
        ("cudnn", "tpu", shape(), "platform is 'tpu', expected an NVIDIA GPU"),
        ("cudnn", "gpu", shape(dtype="float32"), "float32, expected bfloat16 or float16"),
        ("cudnn", "gpu", shape(197), "q has 197 tokens, expected a multiple of 2"),
        (
            "cudnn",
            "gpu",
            shape(head_dim=136),
            "head_dim is 136, expected a multiple of 8 up to 128",
        ),
    ],
)
def test_kernel_that_cannot_run_says_why_and_what_to_change(
    monkeypatch, kernel, platform, array, message
):
    pretend(monkeypatch, platform, compute_capability="8.0")
    with pytest.raises(ValueError, match=f"attention '{kernel}' .*{message}.*'auto' or 'plain'"):
        choose(array, array, kernel)


def test_unknown_kernel_lists_those_that_exist():
    with pytest.raises(ValueError, match="'auto', 'plain', 'cudnn', 'splash', not 'flash'"):
        attend(shape(), shape(), shape(), kernel="flash")
    with pytest.raises(ValueError, match="attention must be one of"):
        vit_22b.configure(attention="flash")


def test_cudnn_is_what_jax_is_asked_for(monkeypatch):
    """Whether it computes the same can only be seen on a GPU."""
    asked = []

    def record(q, k, v, **options):
        asked.append(options)
        return q

    pretend(monkeypatch, "gpu", compute_capability="8.0")
    monkeypatch.setattr(jax.nn, "dot_product_attention", record)
    q = jnp.zeros((1, 4, 1, 8), jnp.bfloat16)
    for kernel in ("cudnn", "auto", "plain"):
        attend(q, q, q, kernel=kernel)
    attend(q, q, q, kernel="auto", causal=True)
    cudnn, plain = {"implementation": "cudnn", "is_causal": False}, {"is_causal": False}
    assert asked == [cudnn, cudnn, plain, cudnn | {"is_causal": True}]


def test_device_is_that_of_the_mesh():
    assert current_platform() == "cpu"
    described = types.SimpleNamespace(platform="tpu")
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    fake = types.SimpleNamespace(
        devices=np.asarray([described], object), abstract_mesh=mesh.abstract_mesh
    )
    with sharding_context(fake, DEFAULT_RULES):
        assert current_device() is described and current_platform() == "tpu"
    with jax.default_device(jax.devices("cpu")[0]):
        assert current_platform() == "cpu"


def test_models_pass_their_choice_to_the_encoder_only(monkeypatch):
    used = []

    def record(q, k, v, *, kernel="plain", causal=False):
        used.append(kernel)
        return q

    monkeypatch.setattr("distill.nn.attention.attend", record)
    monkeypatch.setattr("teachers.vit_22b.attend", record)
    small = dict(width=16, depth=1, mlp_dim=16, heads=2, image_size=28, head="map", num_classes=3)
    for family, variant in {"vit": "S/14", "vit_22b": "22B/14"}.items():
        network = resolve(
            ModelConfig, dict(family=family, variant=variant, attention="splash", **small)
        ).network()
        images = jax.ShapeDtypeStruct((1, 28, 28, 3), jnp.float32)
        jax.eval_shape(network.apply, network.abstract_params, images)
        jax.eval_shape(network.with_attention("plain").apply, network.abstract_params, images)
    assert used == ["splash", "plain", "plain", "plain"] * 2


def test_flops_of_attention_are_counted_with_the_plain_kernel():
    q = jax.ShapeDtypeStruct((2, 256, 4, 64), jnp.float32)
    assert count_flops(attend, q, q, q).matrix == 2 * (2 * 2 * 4 * 256 * 256 * 64)


EIGHT_DEVICES = """
import functools, json
import jax
jax.config.update("jax_num_cpu_devices", 8)
import jax.numpy as jnp, numpy as np
from jax.sharding import PartitionSpec as P
from distill.nn import kernels
from distill.parallel import MeshConfig, map_shards, make_mesh, replicated, sharding_context
from distill.parallel.rules import DEFAULT_RULES

mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
seen = []

def local(q, k, v):
    seen.append(list(q.shape))
    return kernels.splash(q, k, v, interpret=True)

sharded = functools.partial(map_shards, local, axes=kernels._AXES)

def run(attend, *arrays):
    def loss(*arrays):
        with sharding_context(mesh, DEFAULT_RULES):
            return jnp.sum(attend(*arrays) ** 2)
    fast = {"xla_backend_optimization_level": 0}
    run = jax.jit(jax.value_and_grad(loss, (0, 1, 2)), compiler_options=fast)
    return jax.tree.leaves(run(*arrays))

def nested(*arrays):
    outer = jax.shard_map(
        sharded, in_specs=P("data"), out_specs=P("data"), axis_names={"data"}, check_vma=False)
    return outer(*arrays)

def all_manual(*arrays):
    spec = P(("data", "fsdp"), None, "tensor")
    return jax.shard_map(sharded, in_specs=spec, out_specs=spec, check_vma=False)(*arrays)

facts, plain = {}, {}
for name, function, heads in (
    ("cut", sharded, 2), ("odd", sharded, 1), ("nested", nested, 2), ("manual", all_manual, 2)):
    rng = np.random.default_rng(0)
    arrays = [
        jax.device_put(rng.standard_normal((4, 128, heads, 8)).astype("float32"), replicated(mesh))
        for _ in range(3)]
    seen.clear()
    actual = run(function, *arrays)
    if heads not in plain:
        plain[heads] = run(kernels.attend, *arrays)
    expected = plain[heads]
    error = max(np.abs(a - e).max() / np.abs(e).max() for a, e in zip(actual, expected))
    facts[name] = [float(error), seen[0]]
print(json.dumps(facts))
"""


@pytest.mark.slow
def test_each_device_calls_the_kernel_on_its_part():
    facts = run_script(EIGHT_DEVICES)
    assert {name: part for name, (_, part) in facts.items()} == {
        name: [1, 128, 1, 8] for name in ("cut", "odd", "nested", "manual")
    }
    assert max(error for error, _ in facts.values()) < 1e-5


TOPOLOGY = """
import json, math, re
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
from distill.parallel import MeshConfig, make_mesh
from jax.experimental import topologies
from teachers import vit_22b

devices = topologies.get_topology_desc(
    platform="tpu", topology_name="v4:2x2x1", chip_config_name="megacore",
    chips_per_host_bounds=(2, 2, 1), num_slices=1).devices
batch, heads, tokens = 4, 2, 256

def facts(kernel, mesh, parts):
    config = vit_22b.configure(
        "22B/2", image_size=32, width=128, depth=1, mlp_dim=320, heads=heads, num_classes=0,
        head="gap", dtype="bfloat16", remat="full", attention=kernel)
    network = vit_22b.build(config).placed(mesh)

    def loss(params, images):
        return jnp.sum(network.apply(params, images).embedding.astype(jnp.float32))

    params = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        network.abstract_params, network.shardings)
    images = jax.ShapeDtypeStruct(
        (batch, 32, 32, 3), jnp.float32,
        sharding=NamedSharding(mesh, P(("data", "fsdp"))))
    text = jax.jit(jax.grad(loss)).lower(params, images).compile().as_text()
    sizes = [
        [int(n) for n in dims.split(",")] for dims in re.findall(r"f32\\[([0-9,]+)\\]", text)]
    weights = batch * heads * tokens * tokens // parts
    found = sum(d.count(tokens) >= 2 and math.prod(d) == weights for d in sizes)
    return {"calls": text.count('custom_call_target="tpu_custom_call"'), "weights": found}

one = make_mesh(MeshConfig(), devices[:1])
four = make_mesh(MeshConfig(data=1, fsdp=2, tensor=2), devices)
print(json.dumps({
    "plain": facts("plain", one, 1),
    "auto": facts("auto", four, 4),
}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="libtpu is not installed")
def test_compiled_for_a_tpu_the_weights_never_reach_its_memory(tpu_compiler):
    facts = run_script(TOPOLOGY, **topology.ENVIRONMENT)
    assert facts["plain"]["calls"] == 0 and facts["plain"]["weights"] > 0, facts
    assert facts["auto"]["calls"] >= 2 and facts["auto"]["weights"] == 0, facts
