"""What accelerators can do at best, for utilisation and for plans.

The figures are the ones their vendors publish, not measurements, and for products without sparsity;
what a program reaches is less. Figures of links are per direction, and approximate.
"""

import dataclasses
import re

_GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """One device as JAX counts them: a whole chip, but for v7x, of whose chips each is two."""

    name: str
    peak_flops: float
    """Per second, in dense bfloat16 products accumulated in float32; V100 has float16 only. A
    multiply-add counts as two."""
    hbm_bytes: int
    """Of device memory; a program gets somewhat less."""
    hbm_bandwidth: float
    """Of device memory, in bytes per second."""
    clock_hz: float | None = None
    """Of the matrix units; None where it depends on power and temperature (GPUs)."""
    links: int | None = None
    """Connections to neighbouring chips in the torus; None for GPUs, whose switches differ."""
    link_bandwidth: float | None = None
    """Of one link in one direction, in bytes per second: both directions together carry twice
    this."""
    torus_dims: int | None = None
    """Dimensions of the torus that the links form: two links in each."""
    per_chip: int = 1
    """Devices of a chip. Its links are all of theirs; memory and arithmetic are each one's own."""
    matrix_unit: int | None = None
    """Side of a matrix unit, in multiply-adds: products waste least where their sides are multiples
    of it. None for GPUs."""


def _tpu(
    name,
    teraflops,
    gib,
    gigabytes_per_second,
    gigahertz,
    link_gigabytes_per_second,
    dims,
    matrix_unit=128,
    per_chip=1,
):
    return Chip(
        name=name,
        peak_flops=teraflops * 1e12,
        hbm_bytes=gib * _GIB,
        hbm_bandwidth=gigabytes_per_second * 1e9,
        clock_hz=gigahertz * 1e9,
        links=2 * dims,
        link_bandwidth=link_gigabytes_per_second * 1e9,
        torus_dims=dims,
        matrix_unit=matrix_unit,
        per_chip=per_chip,
    )


def _gpu(name, teraflops, gib, gigabytes_per_second):
    return Chip(
        name=name,
        peak_flops=teraflops * 1e12,
        hbm_bytes=gib * _GIB,
        hbm_bandwidth=gigabytes_per_second * 1e9,
    )


CHIPS: dict[str, Chip] = {
    chip.name: chip
    for chip in (
        _tpu("TPU v4", 275, 32, 1228, 1.05, 45, 3),
        _tpu("TPU v5e", 197, 16, 819, 1.5, 45, 2),
        _tpu("TPU v5p", 459, 95, 2765, 1.75, 90, 3),
        _tpu("TPU v6e", 918, 32, 1640, 1.75, 90, 2, matrix_unit=256),
        # Of a chip: 2307 TFLOP/s, 192 GiB, 7380 GB/s, and 1200 GB/s over its links, both ways
        # together. The clock is not published: four matrix units give that peak at this one.
        _tpu("TPU v7x", 2307 / 2, 192 // 2, 7380 / 2, 2.2, 100, 3, matrix_unit=256, per_chip=2),
        _gpu("V100", 125, 16, 900),
        _gpu("V100 32GB", 125, 32, 900),
        _gpu("A100 40GB", 312, 40, 1555),
        _gpu("A100 80GB", 312, 80, 2039),
        _gpu("A100 80GB PCIe", 312, 80, 1935),
        _gpu("L4", 121, 24, 300),
        _gpu("H100 SXM", 989, 80, 3350),
        _gpu("H100 PCIe", 756, 80, 2000),
        _gpu("H200 SXM", 989, 141, 4800),
        _gpu("B200 SXM", 2250, 180, 8000),
    )
}

# What `jax.Device.device_kind` says of each; a regex must match all of it. A kind that none
# matches is unknown: H100 NVL, H200 NVL, GH200 and GB200, for example, are other chips.
_KINDS = (
    (r"TPU v4", "TPU v4"),
    (r"TPU v5 ?(lite|e)", "TPU v5e"),
    (r"TPU v5p?", "TPU v5p"),
    (r"TPU v6 ?(lite|e)", "TPU v6e"),
    (r"TPU ?7x", "TPU v7x"),
    (r"(NVIDIA|Tesla) V100-SXM\d-16GB", "V100"),
    (r"(NVIDIA|Tesla) V100-SXM\d-32GB", "V100 32GB"),
    (r"(NVIDIA )?A100-(SXM4|PCI[Ee])-40GB", "A100 40GB"),
    (r"(NVIDIA )?A100-SXM4-80GB", "A100 80GB"),
    (r"NVIDIA A100 80GB PCIe", "A100 80GB PCIe"),
    (r"NVIDIA L4", "L4"),
    (r"NVIDIA H100 80GB HBM3", "H100 SXM"),
    (r"NVIDIA H100 PCIe", "H100 PCIe"),
    (r"NVIDIA H200", "H200 SXM"),
    (r"NVIDIA B200", "B200 SXM"),
)


def chip_of(device_kind: str) -> Chip | None:
    """The chip behind `jax.Device.device_kind`, or None if it is not in `CHIPS`."""
    return next((CHIPS[name] for kind, name in _KINDS if re.fullmatch(kind, device_kind)), None)
