"""Where the time of a scheduled program goes: what is computed usefully, again, or waited for."""

import dataclasses
import math
import re
from collections.abc import Iterable

import numpy as np

from distill.estimate.cost import Spent, collectives
from distill.estimate.hlo import Computation, Instruction, Program, dimensions

# What communication is called, by XLA's opcode.
_COMMUNICATION = {
    "all-gather": "gathers",
    "reduce-scatter": "scatters",
    "all-reduce": "reductions",
    "all-to-all": "exchanges",
    "collective-permute": "permutes",
}
# The functions of this project that say what an instruction belongs to; the first that is found
# among those that it was traced in decides.
_OPTIMIZER, _LOSS = "_make_update.<locals>.update", "_make_update.<locals>.loss"
_ATTENTION = "attend"
_NORM = "LayerNorm.__call__"
_BIAS = "Linear.add_bias"
_MOVES = frozenset(
    "copy copy-start transpose broadcast dynamic-slice dynamic-update-slice slice slice-start pad "
    "concatenate reshape".split()
)
_PRODUCTS = ("convolution", "dot")
# Seconds: what subtracting two times leaves of nothing.
_ROUNDING = 1e-12

KINDS = ("products", "attention", "norms", "biases", "copies", "optimizer", "other")
"""Of arithmetic; what a product is fused with counts as the product."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A kind of work, in seconds of one device; an estimate."""

    kind: str
    """One of `KINDS`, or of communication."""
    forward: float = 0.0
    """Also what belongs to no pass, such as the optimizer's."""
    backward: float = 0.0
    again: float = 0.0
    """Computed again in the backward pass, as rematerialisation has it."""
    flops: float = 0.0
    """Of the products in it, as they are computed: padding left out, repetitions counted."""
    exposed: bool = False
    """Whether this is time in which nothing but communication goes on."""

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.forward + self.backward + self.again


def breakdown(program: Program, spent: Iterable[Spent]) -> list[Part]:
    """Sorts what a program spends by what it is spent on.

    Args:
      program: what was walked through.
      spent: what `distill.estimate.cost.spend` says of it.

    Returns:
      Arithmetic in the order of `KINDS`, then exposed communication; what takes nothing is left
      out.
    """
    found: dict[str, Part] = {}
    flops = _Flops(program)
    for instruction, cost, times in spent:
        if cost.compute:
            kind = _kind(program, instruction, flops)
            done = flops.of(instruction) * times
            _add(found, kind, _pass(instruction), cost.compute, done)
        if cost.exposed:
            named = collectives(program, instruction)
            kind = _COMMUNICATION[named[0][0]] if named else "transfers to the host"
            _add(found, kind, _pass(instruction), cost.exposed, exposed=True)
    order = [*KINDS, *_COMMUNICATION.values(), "transfers to the host"]
    parts = [part for part in found.values() if part.seconds > _ROUNDING]
    return sorted(parts, key=lambda part: order.index(part.kind))


def _add(found: dict[str, Part], kind: str, which: str, seconds: float, flops=0.0, exposed=False):
    part = found.get(kind, Part(kind, exposed=exposed))
    found[kind] = dataclasses.replace(
        part, **{which: getattr(part, which) + seconds}, flops=part.flops + flops
    )


def _pass(instruction: Instruction) -> str:
    """By what JAX calls it."""
    name = re.search(r'op_name="([^"]*)"', instruction.text)
    if name and "rematted_computation" in name.group(1):
        return "again"
    return "backward" if name and "transpose(" in name.group(1) else "forward"


def _kind(program: Program, instruction: Instruction, flops: "_Flops") -> str:
    functions = program.traced_in(instruction)
    if _OPTIMIZER in functions and _LOSS not in functions:
        return "optimizer"
    if _ATTENTION in functions:
        return "attention"
    if flops.of(instruction):
        return "products"
    if _NORM in functions:
        return "norms"
    if _BIAS in functions:
        return "biases"
    # Fusions are named after what they do.
    named = instruction.name.rstrip("0123456789.")
    if instruction.opcode in _MOVES or re.search("copy|slice|transpose|broadcast", named):
        return "copies"
    return "other"


class _Flops:
    """Operations of the products in an instruction, and in what it calls."""

    def __init__(self, program: Program):
        self._program = program
        self._known: dict[str, float] = {}

    def of(self, instruction: Instruction) -> float:
        """Of one turn."""
        called = instruction.attribute("calls")
        return self._computation(self._program.computations[called]) if called else 0.0

    def _computation(self, computation: Computation) -> float:
        if computation.name not in self._known:
            self._known[computation.name] = sum(
                product_flops(one, computation) if one.opcode in _PRODUCTS else self.of(one)
                for one in computation.instructions
            )
        return self._known[computation.name]


def product_flops(instruction: Instruction, computation: Computation) -> float:
    """Multiplications and additions of a product.

    XLA for TPU writes every product as a convolution, and what a head or an image has of its own
    as places that a dilated window passes over: only where the window meets the array counts.
    """
    left, right = (dimensions(computation.by_name[name].shape) for name in instruction.operands)
    result = dimensions(instruction.shape)
    if instruction.opcode == "dot":
        summed = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.text)
        along = [int(i) for i in summed.group(1).split(",")] if summed else []
        return 2.0 * math.prod(result) * math.prod(left[i] for i in along)
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.text)
    if labels is None:
        raise ValueError(f"no dim_labels in {instruction.text[:200]!r}")
    lhs, rhs, out = labels.groups()
    pairs = 1
    for place, label in enumerate(sorted(c for c in out if c.isdigit())):
        pairs *= _meetings(
            left[lhs.index(label)], right[rhs.index(label)], _window(instruction.text, place)
        )
    return 2.0 * result[out.index("b")] * result[out.index("f")] * right[rhs.index("i")] * pairs


def _window(text: str, place: int) -> dict[str, int]:
    """How the window of a convolution goes along one of its dimensions."""
    found = re.search(r"window=\{([^}]*)\}", text)
    given = dict(item.split("=") for item in found.group(1).split()) if found else {}

    def at(name: str, default: str) -> str:
        return given[name].split("x")[place] if name in given else default

    low, _, high = at("pad", "0_0").partition("_")
    return dict(
        stride=int(at("stride", "1")),
        low=int(low),
        high=int(high),
        spread=int(at("lhs_dilate", "1")),
        step=int(at("rhs_dilate", "1")),
    )


def _meetings(size: int, window: int, way: dict[str, int]) -> int:
    """In how many places a window and an array meet along a dimension."""
    spread = (size - 1) * way["spread"] + 1
    reach = (window - 1) * way["step"] + 1
    starts = np.arange(0, way["low"] + spread + way["high"] - reach + 1, way["stride"])
    at = starts[:, None] + np.arange(window)[None] * way["step"] - way["low"]
    return int(((at >= 0) & (at < spread) & (at % way["spread"] == 0)).sum())
