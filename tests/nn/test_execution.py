"""What `auto` stands for: by platform, depth and memory."""

import types

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, AxisType

from distill.config import ConfigError, resolve
from distill.nn import execution
from distill.nn.execution import Execution, execution_of, kept_bytes
from distill.nn.family import ModelConfig
from distill.parallel import MeshConfig, make_mesh
from students import vit

AUTO = ("auto", "auto")
TINY = dict(width=8, mlp_dim=16, heads=2, image_size=8, num_classes=3, head="gap")


def network(**choices):
    return vit.build(vit.configure("mu/4", **(TINY | choices)))


def placed(**choices):
    return network(**choices).placed(make_mesh(MeshConfig(data=1), jax.devices()[:1]))


def executed(on, batch=2):
    (found,) = on.executions(batch).values()
    return found[:2]


def program(on, batch=2):
    """The gradient's trace: what recomputes and what loops, without what differs between runs."""
    images = jax.ShapeDtypeStruct((batch, *on.config.image_shape), "float32")

    def loss(params, images):
        return jnp.sum(on.apply(params, images).logits ** 2)

    text = str(jax.make_jaxpr(jax.grad(loss))(on.abstract_params, images))
    return text.count("remat"), "scan[" in text


@pytest.mark.parametrize(
    ("depth", "asked", "expected"),
    [
        (1, AUTO, ("none", True)),
        (3, AUTO, ("none", True)),
        (4, AUTO, ("dots", False)),
        (12, AUTO, ("dots", False)),
        # What is given stays, and the other follows from it.
        (12, ("auto", True), ("none", True)),
        (2, ("auto", False), ("dots", False)),
        (2, ("full", "auto"), ("full", False)),
        (2, ("none", "auto"), ("none", True)),
        (12, ("none", "auto"), ("none", False)),
        (12, ("full", True), ("full", True)),
    ],
)
def test_on_a_cpu_depth_decides(depth, asked, expected):
    remat, unroll = asked
    assert executed(placed(depth=depth, remat=remat, unroll=unroll)) == expected


def test_what_is_said_is_what_is_traced():
    for depth in (2, 5):
        auto = placed(depth=depth)
        remat, unroll = executed(auto)
        assert program(auto) == program(placed(depth=depth, remat=remat, unroll=unroll))
    assert program(placed(depth=2)) != program(placed(depth=2, unroll=False))
    assert program(placed(depth=5)) != program(placed(depth=5, remat="none"))


def test_a_network_that_is_nowhere_is_scanned_and_keeps_all():
    assert executed(network(depth=12)) == ("none", False)
    assert program(network(depth=12)) == program(network(depth=12, remat="none", unroll=False))


def test_rematerialisation_that_saves_nothing_is_known():
    def in_vain(**choices):
        return placed(depth=2, **choices).executions(2)[""].saves_nothing

    assert in_vain(remat="full", unroll=True) and in_vain(remat="dots", unroll=True)
    assert not in_vain(remat="full", unroll=False) and not in_vain(remat="none", unroll=True)
    assert not in_vain() and not in_vain(remat="full")


@pytest.fixture
def on_chip(monkeypatch):
    """Calls a function as if it were traced for a mesh of chips."""

    def call(kind, function, platform="tpu", **axes):
        chip = types.SimpleNamespace(platform=platform, device_kind=kind)
        monkeypatch.setattr(execution, "current_device", lambda: chip)
        sizes = {"data": 1, "fsdp": 1, "tensor": 1} | axes
        mesh = AbstractMesh(tuple(sizes.values()), tuple(sizes), (AxisType.Auto,) * len(sizes))
        with jax.sharding.use_abstract_mesh(mesh):
            return function()

    return call


def chosen(config, batch):
    tokens = config.sequence_length
    return execution_of(config, config.depth, "auto", "auto", batch, tokens)


B16 = vit.configure("B/16", num_classes=1000, dtype="bfloat16")


def test_what_is_kept_is_about_what_libtpu_plans(on_chip):
    """Of B/16 in bfloat16, 32 more images took 6.22 GiB on v5e; 32 with dots 1.76 with the rest."""
    kept = on_chip("TPU v5e", lambda: kept_bytes(B16, B16.depth, 32, B16.sequence_length))
    assert kept["none"] / 2**30 == pytest.approx(6.22, rel=0.1)
    assert kept["dots"] / 2**30 == pytest.approx(1.76, rel=0.25)
    assert kept["full"] < kept["dots"]


def test_on_an_accelerator_memory_decides(on_chip):
    def policy(kind, batch, **axes):
        found = on_chip(kind, lambda: chosen(B16, batch), **axes)
        assert not found.unroll and "GiB" in found.why
        return found.remat

    assert [policy("TPU v5e", batch) for batch in (4, 32, 512)] == ["none", "dots", "full"]
    # A larger chip keeps more, and so do more chips that share a batch.
    assert policy("NVIDIA H200", 32, platform="gpu") == "none"
    assert policy("TPU v5e", 32, data=2, fsdp=2, tensor=2) == "none"
    assert policy("TPU v5e", 512, data=4) == "dots"
    # Layers that do not fit whatever is kept are computed again.
    large = vit.configure("H/14", num_classes=1000, dtype="bfloat16")
    assert on_chip("TPU v5e", lambda: chosen(large, 16)).remat == "full"


def test_no_reason_is_given_for_a_policy_that_is_named(on_chip):
    def named():
        return execution_of(B16, B16.depth, "none", "auto", 512, B16.sequence_length)

    assert on_chip("TPU v5e", named) == Execution("none", False)


def test_an_unknown_chip_counts_what_its_allocator_says(on_chip, monkeypatch):
    class Unknown:
        platform, device_kind = "gpu", "Unheard-of"

        def __init__(self, limit):
            self.limit = limit

        def memory_stats(self):
            return self.limit and {"bytes_limit": self.limit}

    found = {}
    for limit in (None, 70 * 2**30, 79 * 2**30, 140 * 2**30):
        monkeypatch.setattr(jax, "local_devices", lambda one=limit: [Unknown(one)])
        found[limit] = execution.device_bytes(Unknown(None)) / 2**30
    # Processes whose allocators differ a little choose alike.
    assert list(found.values()) == [16, 64, 64, 128]


def test_several_cpus_that_stand_for_chips_are_left_as_they_were(on_chip):
    found = on_chip("cpu", lambda: chosen(B16, 4096), platform="cpu", data=8)
    assert found == Execution("none", False, "8 CPU devices")


def test_auto_is_recorded_and_read_as_it_is():
    tree = {"family": "vit", "variant": "mu/4"}
    model = resolve(ModelConfig, tree)
    assert (model.remat, model.unroll) == AUTO
    given = resolve(ModelConfig, tree, {"unroll": "true", "remat": "dots"})
    assert (given.remat, given.unroll) == ("dots", True)
    assert resolve(ModelConfig, tree | {"unroll": False}, {"unroll": "auto"}).unroll == "auto"
    with pytest.raises(ConfigError, match="unroll"):
        resolve(ModelConfig, tree, {"unroll": "maybe"})
