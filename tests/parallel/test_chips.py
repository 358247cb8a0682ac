"""Which chip a device's name stands for."""

import pytest

from distill.parallel import CHIPS, chip_of

KINDS = {
    "TPU v4": "TPU v4",
    "TPU v5 lite": "TPU v5e",
    "TPU v5": "TPU v5p",
    "TPU v5p": "TPU v5p",
    "TPU v6 lite": "TPU v6e",
    "TPU7x": "TPU v7x",
    "Tesla V100-SXM2-16GB": "V100",
    "NVIDIA A100-SXM4-40GB": "A100 40GB",
    "NVIDIA A100-SXM4-80GB": "A100 80GB",
    "NVIDIA A100 80GB PCIe": "A100 80GB PCIe",
    "NVIDIA L4": "L4",
    "NVIDIA H100 80GB HBM3": "H100 SXM",
    "NVIDIA H100 PCIe": "H100 PCIe",
    "NVIDIA H200": "H200 SXM",
    "NVIDIA B200": "B200 SXM",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_devices_name_finds_its_chip(kind):
    assert chip_of(kind) is CHIPS[KINDS[kind]]


@pytest.mark.parametrize(
    "kind", ["cpu", "NVIDIA L40S", "NVIDIA H100 NVL", "TPU v3", "TPU7", "NVIDIA GB200"]
)
def test_similar_names_are_not_taken_for_known_chips(kind):
    assert chip_of(kind) is None


def test_every_chip_can_be_found():
    assert {chip_of(kind).name for kind in KINDS} | {"V100 32GB"} == set(CHIPS)


@pytest.mark.parametrize("chip", CHIPS.values(), ids=CHIPS)
def test_figures_have_the_units_they_say(chip):
    assert 1e14 < chip.peak_flops < 3e15
    assert 2**34 <= chip.hbm_bytes < 2**38
    # Between 100 and 800 operations per byte: a wrong power of ten falls out.
    assert 100 < chip.peak_flops / chip.hbm_bandwidth < 800
    if chip.name.startswith("TPU"):
        assert chip.links == 2 * chip.torus_dims
        assert chip.link_bandwidth < chip.hbm_bandwidth
        # Each cycle, some square matrix units of multiply-adds.
        units = chip.peak_flops / chip.clock_hz / (2 * chip.matrix_unit**2)
        assert units == pytest.approx(round(units), rel=0.01)
