"""Shapes that fit: a search over width, depth, heads and MLP for a memory budget.

"Scaling Vision Transformers" (arXiv 2106.04560) calls it the Shapefinder: at a fixed patch size,
models of many shapes are started on one device, and what counts is whether they fit and how fast
they are, not how well they learn. What to prefer among those that fit, the original ViT's study of
shapes says (arXiv 2010.11929, appendix D.2): a model gains most reliably where all dimensions grow
in proportion. So ViT-g and ViT-G were taken from the diagonal, along which depth, width and MLP
grow by one factor, where it meets the limit of memory: from ViT-S (width 384, depth 12, MLP 1536,
6 heads), 13/3 leads to 1664, 52, 6656, 26, and ViT-G is 1664, 48, 8192, 16.

Here a shape is compiled instead of started. That takes minutes, so few are: memory grows with
every dimension, which leaves a boundary to be found by bisection.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence


@dataclasses.dataclass(frozen=True, order=True)
class Shape:
    """A transformer's dimensions.

    Raises:
      ValueError: if one is not positive, or the heads do not divide the width.
    """

    width: int
    depth: int
    mlp_dim: int
    heads: int

    def __post_init__(self):
        if min(dataclasses.astuple(self)) < 1:
            raise ValueError(f"a shape needs positive dimensions, not {self}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")

    @property
    def head_dim(self) -> int:
        """Features of a head."""
        return self.width // self.heads

    def within(self, other: "Shape") -> bool:
        """Whether `other` needs at least as much memory: larger nowhere, heads of the same size.

        Heads of different sizes are padded differently, so nothing is said of them.
        """
        return (
            self.head_dim == other.head_dim
            and self.width <= other.width
            and self.depth <= other.depth
            and self.mlp_dim <= other.mlp_dim
        )

    def __str__(self):
        return f"{self.width}·{self.depth}·{self.mlp_dim}·{self.heads}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShapeGrid:
    """The shapes to try: each width with each depth, MLP ratio and head size.

    Raises:
      ValueError: for numbers that are not positive, or a width that no head size divides.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    mlp_ratios: tuple[float, ...] = (4.0,)
    """MLP over width; the MLP is rounded to the nearest multiple of `tile`."""
    head_dims: tuple[int, ...] = (64,)
    """Each is combined with the widths that it divides."""
    tile: int = 128
    """Side of the chip's matrix unit."""

    def __post_init__(self):
        for name in ("widths", "depths", "mlp_ratios", "head_dims"):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"{name} has no number in it; a range goes from less to more")
            if min(values) <= 0:
                raise ValueError(f"{name} must be positive numbers, not {values}")
        for width in self.widths:
            if all(width % head_dim for head_dim in self.head_dims):
                sizes = " or ".join(map(str, self.head_dims))
                raise ValueError(f"width {width} cannot be divided into heads of {sizes}")

    def columns(self) -> list[tuple[Shape, ...]]:
        """Shapes that differ in depth alone, shallowest first; narrow columns before wide ones."""
        return [
            tuple(
                Shape(width, depth, _nearest(ratio * width, self.tile), width // head_dim)
                for depth in sorted(set(self.depths))
            )
            for head_dim, ratio, width in itertools.product(
                sorted(set(self.head_dims)), sorted(set(self.mlp_ratios)), sorted(set(self.widths))
            )
            if width % head_dim == 0
        ]


def diagonal(base: Shape, tile: int = 128) -> Iterator[Shape]:
    """`base` scaled in all dimensions by one factor, smallest first, without end.

    The width takes every multiple of `tile` that heads of the base's size divide; depth and MLP
    follow in proportion, and so does the number of heads.
    """
    step = math.lcm(tile, base.head_dim)
    for width in itertools.count(step, step):
        factor = width / base.width
        yield Shape(
            width,
            max(1, round(factor * base.depth)),
            _nearest(factor * base.mlp_dim, tile),
            width // base.head_dim,
        )


def _nearest(size: float, tile: int) -> int:
    return tile * max(1, round(size / tile))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """What compiling a shape's training step has shown: the compiler's bytes, estimated seconds."""

    shape: Shape
    parameters: int
    flops: int
    """Of one forward image, a multiply-add counting as two."""
    bytes_per_chip: int
    """Of all its devices together."""
    step_seconds: float | None
    """None, as what follows, where the step is larger than the chip."""
    images_per_second: float | None
    """Of the whole slice."""
    mfu: float | None
    unestimated_kernels: int
    """Of which `step_seconds` knows the memory traffic alone."""
    compile_seconds: float

    def fits(self, budget: int) -> bool:
        """Whether the chip and `budget` bytes have room for it."""
        return self.step_seconds is not None and self.bytes_per_chip <= budget


class ShapeSearch:
    """Finds the largest shapes that fit, compiling few.

    Memory is taken to grow with every dimension (`Shape.within`). Anything that contradicts this,
    such as an MLP that the compiler happens to lay out better than a smaller one, can make a
    column end early, but what is reported as compiled has been.

    Args:
      compile_step: plans the training step of a shape; minutes.
      least_bytes: what a chip holds of a shape at the least, without compiling; a second.
      budget: bytes of a chip.
      known: what earlier searches have compiled.
      starting: told of each shape that is about to be compiled, and how many may follow at most.
    """

    def __init__(
        self,
        compile_step: Callable[[Shape], Found],
        least_bytes: Callable[[Shape], int],
        budget: int,
        *,
        known: Iterable[Found] = (),
        starting: Callable[[Shape, int], None] = lambda shape, most_left: None,
    ):
        self.found = {one.shape: one for one in known}
        self.budget = budget
        self._compile = compile_step
        self._least_bytes = least_bytes
        self._starting = starting
        self._least: dict[Shape, int] = {}

    def run(self, chains: Sequence[Sequence[Shape]]) -> list[Found | None]:
        """The largest shape that fits of each chain, or None where none does.

        Args:
          chains: shapes of which each is `within` the next, such as a grid's columns.
        """
        # A bisection of n shapes asks for n.bit_length() at most.
        most = [len(chain).bit_length() for chain in chains]
        return [
            self._largest(chain, sum(most[number:])) for number, chain in enumerate(chains, start=1)
        ]

    def within_budget(self, shapes: Iterable[Shape]) -> tuple[Shape, ...]:
        """The shapes up to the first that cannot fit, however the compiler lays it out."""
        return tuple(
            itertools.takewhile(lambda shape: self._at_least(shape) <= self.budget, shapes)
        )

    def verdict(self, shape: Shape) -> bool | None:
        """Whether a shape fits, as far as that is known or follows; else None."""
        if shape in self.found:
            return self.found[shape].fits(self.budget)
        if self._cannot_fit(shape):
            return False
        larger = (one for one in self.found.values() if shape.within(one.shape))
        return True if any(one.fits(self.budget) for one in larger) else None

    def _largest(self, chain: Sequence[Shape], most_elsewhere: int) -> Found | None:
        # chain[:low] fits, chain[high:] does not.
        known = (n for n, shape in enumerate(chain, start=1) if self._is_known_to_fit(shape))
        low, high = max(known, default=0), len(chain)
        while high > low and self.verdict(chain[high - 1]) is False:
            high -= 1
        while low < high:
            middle = (low + high) // 2
            left = (high - low).bit_length() - 1 + most_elsewhere
            if self._ask(chain[middle], left).fits(self.budget):
                low = middle + 1
            else:
                high = middle
        return self.found[chain[low - 1]] if low else None

    def _ask(self, shape: Shape, most_left: int) -> Found:
        if shape not in self.found:
            self._starting(shape, most_left)
            self.found[shape] = self._compile(shape)
        return self.found[shape]

    def _is_known_to_fit(self, shape: Shape) -> bool:
        return shape in self.found and self.found[shape].fits(self.budget)

    def _cannot_fit(self, shape: Shape) -> bool:
        smaller = (one for one in self.found.values() if one.shape.within(shape))
        return (
            any(not one.fits(self.budget) for one in smaller) or self._at_least(shape) > self.budget
        )

    def _at_least(self, shape: Shape) -> int:
        if shape not in self._least:
            self._least[shape] = self._least_bytes(shape)
        return self._least[shape]
