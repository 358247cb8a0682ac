"""Teachers against the sizes their papers print, without allocating them."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from distill.nn import count_flops
from teachers import vit_22b, vit_g

JFT_CLASSES = 29_593


def giga_flops(config):
    network = vit_g.build(config)
    images = jax.ShapeDtypeStruct((1, *config.image_shape), jnp.float32)
    return count_flops(network.apply, network.abstract_params, images).total / 1e9


@pytest.mark.parametrize(
    ("variant", "shape", "millions", "at_224", "at_384"),
    [
        ("g/14", (1408, 40, 6144, 16), 1011, 533.1, 1596.4),
        ("G/14", (1664, 48, 8192, 16), 1843, 965.3, 2859.9),
    ],
)
def test_giant_is_the_row_of_table_2(variant, shape, millions, at_224, at_384):
    config = vit_g.configure(variant)
    assert (config.width, config.depth, config.mlp_dim, config.heads) == shape
    count = vit_g.build(config).parameter_count(without=("head", "classifier"))
    assert round(count / 1e6) == millions
    at_378 = vit_g.configure(variant, head="gap", image_size=384 // 14 * 14)
    at_native = vit_g.configure(variant, head="gap")
    assert giga_flops(at_native) == pytest.approx(at_224, rel=1e-3)
    assert giga_flops(at_378) == pytest.approx(at_384, rel=1e-3)


@pytest.mark.parametrize(("variant", "millions"), [("g/14", 1036), ("G/14", 1881), ("e/14", 3873)])
def test_map_head_counts_are_those_of_the_reference_implementation(variant, millions):
    network = vit_g.build(vit_g.configure(variant, num_classes=0))
    assert network.config.head == "map"
    assert round(network.parameter_count() / 1e6) == millions


def test_vit_e_has_the_size_and_cost_its_paper_prints():
    config = vit_g.configure("e/14", num_classes=JFT_CLASSES)
    assert (config.width, config.depth, config.mlp_dim, config.heads) == (1792, 56, 15360, 16)
    assert round(vit_g.build(config).parameter_count() / 1e6) == 3926
    assert giga_flops(config) == pytest.approx(1980, rel=1e-3)


def test_vit_22b_block_kernels_are_exactly_21743_27_million():
    network = vit_22b.build(vit_22b.configure())
    blocks = network.abstract_params["encoder"]["blocks"]
    kernels = sum(
        leaf.size for path, leaf in jax.tree.leaves_with_path(blocks) if path[-1].key == "kernel"
    )
    assert f"{kernels / 1e6:.2f}" == "21743.27"
    assert kernels == 48 * (4 * 6144 * 6144 + 2 * 6144 * 24576)


def test_vit_22b_is_about_22387_million_with_everything():
    config = vit_22b.configure("22B/14", num_classes=JFT_CLASSES)
    assert (config.width, config.depth, config.mlp_dim, config.heads) == (6144, 48, 24576, 48)
    assert (config.head, config.position_embedding, config.patch_size) == ("map", "learned", 14)
    count = vit_22b.build(config).parameter_count()
    assert count / 1e6 == pytest.approx(22_387, rel=2e-4)


def test_describing_vit_22b_takes_little_memory():
    """Its parameters alone are 89 GB; a process that describes it peaks far below one layer."""
    program = """
import jax, jax.numpy as jnp, resource
from distill.nn import count_flops
from teachers import vit_22b
baseline = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
network = vit_22b.build(vit_22b.configure())
assert network.parameter_count() > 22e9
images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
assert count_flops(network.apply, network.abstract_params, images).matrix > 1e13
assert jax.eval_shape(network.apply, network.abstract_params, images).logits.shape == (1, 1000)
assert not jax.live_arrays()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - baseline)
"""
    process = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    unit = 1 if sys.platform == "darwin" else 1024
    one_layer = 4 * (4 * 6144 * 6144 + 2 * 6144 * 24576)
    assert int(process.stdout) * unit < min(300e6, one_layer)


@pytest.mark.parametrize(("module", "variant"), [(vit_g, "B/16"), (vit_22b, "G/14")])
def test_unknown_teacher_is_refused_with_the_known_ones(module, variant):
    with pytest.raises(ValueError, match="unknown variant") as error:
        module.configure(variant)
    assert all(name in str(error.value) for name in module.SHAPES)
