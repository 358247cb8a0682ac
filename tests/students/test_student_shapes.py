"""Students against Table 2 of arXiv 2106.04560 and the reference implementation's counts."""

import jax
import jax.numpy as jnp
import pytest

from distill.nn import count_flops
from students import vit

# name, width, depth, mlp, heads, M parameters, GFLOPs at 224 px, GFLOPs at 384 px; as printed.
TABLE_2 = """
s/28   256  6 1024  8  5.4   0.7   2.0
s/16   256  6 1024  8  5.0   2.2   7.8
S/32   384 12 1536  6   22   2.3   6.9
Ti/16  192 12  768  3  5.5   2.5   9.5
B/32   768 12 3072 12   87   8.7  26.0
S/16   384 12 1536  6   22   9.2  31.2
B/28   768 12 3072 12   87  11.3  30.5
B/16   768 12 3072 12   86  35.1 111.3
L/16  1024 24 4096 16  303 122.9 382.8
"""
ROWS = [line.split() for line in TABLE_2.strip().splitlines()]


def agrees(value, printed):
    """Equal as rounded in print, or within 0.1%."""
    _, _, decimals = printed.partition(".")
    return abs(value - float(printed)) <= max(0.5 * 10 ** -len(decimals), 1e-3 * float(printed))


def giga_flops(variant, side):
    config = vit.configure(
        variant,
        image_size=side // int(variant.split("/")[1]) * int(variant.split("/")[1]),
        head="gap",
    )
    network = vit.build(config)
    images = jax.ShapeDtypeStruct((1, *config.image_shape), jnp.float32)
    return count_flops(network.apply, network.abstract_params, images).total / 1e9


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_student_is_the_row_of_table_2(row):
    name, *shape, millions, at_224, at_384 = row
    config = vit.configure(name)
    assert [config.width, config.depth, config.mlp_dim, config.heads] == [int(n) for n in shape]
    assert config.patch_size == int(name.split("/")[1])
    assert config.image_shape == (224, 224, 3)
    count = vit.build(config).parameter_count(without=("head", "classifier"))
    assert agrees(count / 1e6, millions)
    assert agrees(giga_flops(name, 224), at_224)
    assert agrees(giga_flops(name, 384), at_384)


@pytest.mark.parametrize(
    ("variant", "shape"),
    [
        ("mu/16", (32, 1, 128, 2)),
        ("M/16", (512, 12, 2048, 8)),
        ("So400m/14", (1152, 27, 4304, 16)),
        ("H/14", (1280, 32, 5120, 16)),
    ],
)
def test_other_students_have_their_shape(variant, shape):
    config = vit.configure(variant)
    assert (config.width, config.depth, config.mlp_dim, config.heads) == shape


@pytest.mark.parametrize(
    ("variant", "millions"),
    [
        ("Ti/16", "5.97"),
        ("S/16", "23.44"),
        ("B/16", "92.88"),
        ("L/16", "315.9"),
        ("So400m/14", "427.7"),
        ("H/14", "650.4"),
    ],
)
def test_map_head_counts_are_those_of_the_reference_implementation(variant, millions):
    network = vit.build(vit.configure(variant, head="map", num_classes=0))
    _, _, decimals = millions.partition(".")
    assert f"{network.parameter_count() / 1e6:.{len(decimals)}f}" == millions


def test_patches_are_a_matter_of_the_name():
    for patch in (8, 14, 16, 32):
        config = vit.configure(f"B/{patch}", image_size=4 * patch)
        assert config.grid == (4, 4)


def test_choices_override_the_variant():
    config = vit.configure("B/16", depth=3, head="gap")
    assert (config.depth, config.head, config.width) == (3, "gap", 768)
