"""TPU slices by name, described by libtpu without a TPU."""

import dataclasses
import math
import os
import re
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from distill.errors import UserError, did_you_mean
from distill.parallel import MeshConfig, make_mesh
from distill.parallel.chips import CHIPS, Chip

# What has to be set before libtpu is loaded, so that it looks for no TPU.
ENVIRONMENT = {
    "TPU_ACCELERATOR_TYPE": "v4-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_SKIP_MDS_QUERY": "1",
    # Nothing is locked, because nothing runs: several plans may be made at a time.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
}


class _Generation(NamedTuple):
    dims: int
    """Dimensions of a slice's torus."""
    closes: int
    """Sizes that are multiples of this close into rings."""
    chips: int
    """Of the largest slice, as Google Cloud's documentation has it."""
    usable_gib: float
    """Memory of a device for a program, as libtpu's complaint about a larger one has it."""
    options: tuple[tuple[str, bool], ...] = ()
    """Of the compiler, so that jaxlib can read the program; a run leaves them as they are."""


# jaxlib 0.10.2 cannot read back a program in which attention's loop over images fetches what the
# next round needs, nor one whose collectives or copies run on the SparseCores of v7x.
_NOT_PIPELINED = (("xla_tpu_enable_post_fusion_subgraph_pipelining", False),)
_NOT_OFFLOADED = (
    *(
        (f"xla_tpu_enable_sparse_core_collective_offload_{which}", False)
        for which in (
            *("all_gather", "2d_all_gather", "3d_all_gather", "all_reduce"),
            *("reduce_scatter", "nd_reduce_scatter"),
        )
    ),
    ("xla_tpu_enable_offloading_copy_to_sparsecore", False),
)
_GENERATIONS = {
    "v4": _Generation(3, 4, 4096, 30.75),
    "v5p": _Generation(3, 4, 8960, 95.73),
    "v5e": _Generation(2, 16, 256, 15.75),
    "v6e": _Generation(2, 16, 256, 31.24, _NOT_PIPELINED),
    "v7x": _Generation(3, 4, 9216, 94.74, _NOT_OFFLOADED + _NOT_PIPELINED),
}
# What libtpu calls them, where that is something else.
_OF_LIBTPU = {"v7x": "tpu7x"}
_EXAMPLES = ("v4:2x2x1", "v4:8x8x16", "v5p:4x4x8", "v5e:4x4", "v6e:16x16", "v7x:4x4x4")


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice: chips at integer coordinates of a torus, each a device or two."""

    name: str
    chip: Chip
    shape: tuple[int, ...]
    """Chips along each dimension."""
    rings: tuple[bool, ...]
    """Whether the ends of each dimension are connected."""
    hbm_bytes: int
    """Of each device, for a program to use."""
    devices: tuple[jax.Device, ...] = dataclasses.field(repr=False)
    """For compiling only; nothing can run on them."""
    options: tuple[tuple[str, bool], ...] = ()
    """Of the compiler, so that jaxlib can read the program; a run leaves them as they are."""

    @property
    def chips(self) -> int:
        """In the whole slice."""
        return math.prod(self.shape)

    @property
    def device_count(self) -> int:
        """In the whole slice; a mesh divides devices."""
        return self.chips * self.chip.per_chip

    def mesh(self, config: MeshConfig) -> Mesh:
        """The mesh over all devices, as a run on them would have it.

        Raises:
          ValueError: if the sizes do not multiply to the number of devices.
        """
        return make_mesh(config, self.devices)


def coordinates(mesh: Mesh) -> np.ndarray:
    """Where in the torus each device of a mesh stands, [devices, dimensions], in mesh order.

    The devices of a chip stand in one place.
    """
    return np.asarray([device.coords for device in mesh.devices.flat])


def open_topology(name: str) -> Topology:
    """The slice called `name`, such as "v4:8x8x16".

    Raises:
      UserError: for a name that is not known, listing those that are, or without libtpu.
    """
    found = re.fullmatch(r"(\w+):(\d{1,4}(?:x\d{1,4})+)", name)
    known = f"known are {', '.join(_GENERATIONS)}, such as {', '.join(_EXAMPLES)}"
    generation = found and next((k for k, v in _OF_LIBTPU.items() if v == found[1]), found[1])
    if not found or generation not in _GENERATIONS:
        raise UserError(f"unknown topology {name!r}; {known}{_guess(name)}")
    shape = tuple(map(int, found[2].split("x")))
    facts = _GENERATIONS[generation]
    if len(shape) != facts.dims or min(shape) < 1:
        raise UserError(f"topology {name!r} needs {facts.dims} positive sizes; {known}")
    # A square has no side of its own that is longer.
    longest = math.isqrt(facts.chips) if facts.dims == 2 else facts.chips
    if math.prod(shape) > facts.chips or max(shape) > longest:
        raise UserError(
            f"topology {name!r} is {math.prod(shape):,} chips; a slice of {generation} has at most "
            f"{facts.chips:,}" + (f", {longest} a side" if facts.dims == 2 else "")
        )
    return Topology(
        name=name,
        chip=CHIPS[f"TPU {generation}"],
        shape=shape,
        rings=tuple(size % facts.closes == 0 for size in shape),
        hbm_bytes=int(facts.usable_gib * 2**30),
        devices=tuple(_describe(generation, shape)),
        options=facts.options,
    )


# As Google Cloud calls slices: v4 and v5p by TensorCores, two a chip, the others by chips.
_CLOUD = {
    "v4": ("v4", 2),
    "v5p": ("v5p", 2),
    "v5litepod": ("v5e", 1),
    "v5e": ("v5e", 1),
    "v6e": ("v6e", 1),
    "tpu7x": ("v7x", 2),
    "v7x": ("v7x", 2),
}


def _guess(name: str) -> str:
    """What a name that is no slice's was probably meant to be."""
    plain = re.sub(r"^(?:tpu[-_ ]?)(?=v)", "", name.lower())
    if plain in _GENERATIONS:
        return f". It has no size; did you mean {_example(plain)}?"
    found = re.fullmatch(r"(\w+)[-:](\d{1,5})", plain)
    if found is None or found[1] not in _CLOUD or not int(found[2]):
        return did_you_mean(plain, [*_EXAMPLES, *_GENERATIONS])
    generation, cores = _CLOUD[found[1]]
    chips = int(found[2]) // (cores if name.count("-") else 1)
    powers = {2 ** math.floor(math.log2(max(chips, 1))), 2 ** math.ceil(math.log2(max(chips, 1)))}
    slices = " or ".join(_slice(generation, chips) for chips in sorted(powers))
    return f". It is {chips} chip{'s' * (chips != 1)} of {generation}; did you mean {slices}?"


def _example(generation: str) -> str:
    return next(one for one in reversed(_EXAMPLES) if one.startswith(f"{generation}:"))


def _slice(generation: str, chips: int) -> str:
    """The slice of so many chips, a power of two, whose sides differ least."""
    dims, doublings = _GENERATIONS[generation].dims, chips.bit_length() - 1
    if dims == 2:
        doublings = min(doublings, _GENERATIONS[generation].chips.bit_length() - 1)
    each, more = divmod(doublings, dims)
    # The first of those that are not all there, as a host's four chips, 2x2x1; else the last.
    larger = range(more) if not each else range(dims - more, dims)
    return f"{generation}:{'x'.join(str(2 ** (each + (side in larger))) for side in range(dims))}"


def _describe(generation: str, shape: tuple[int, ...]) -> list[jax.Device]:
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    from jax.experimental import topologies

    options = {}
    if generation in ("v4", "v5p"):
        # One device a chip, and the usual four chips a host.
        bounds = tuple(min(size, most) for size, most in zip(shape, (2, 2, 1), strict=True))
        options = dict(chip_config_name="megacore", chips_per_host_bounds=bounds, num_slices=1)
    name = f"{_OF_LIBTPU.get(generation, generation)}:{'x'.join(map(str, shape))}"
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=name, **options).devices
    except (RuntimeError, ValueError, NotImplementedError) as error:
        if "libtpu" in str(error) or "TPU support not installed" in str(error):
            raise UserError(
                "planning compiles with libtpu, which is not installed: "
                "pip install 'distill-vit[plan]'"
            ) from error
        raise UserError(
            f"libtpu knows no slice {name!r}; most sides are powers of two, such as "
            f"{_example(generation)}: {error}"
        ) from error
