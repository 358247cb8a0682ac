"""What a traced program keeps and multiplies, from shapes alone: nothing is compiled."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from jax.extend import core

Bytes = Callable[[Any], float]
"""Of an array, given its aval."""


class Product(NamedTuple):
    """A matrix product."""

    times: int
    """How often it is computed."""
    flops: int
    """Of one, a multiply-add counting as two."""
    moved: int
    """Bytes of both operands and the result."""
    dtype: str
    """Of the operands."""


def array_bytes(aval: Any) -> int:
    """Bytes of an array; of what is none, nothing."""
    if not hasattr(aval, "shape"):
        return 0
    return math.prod(aval.shape) * getattr(aval.dtype, "itemsize", 4)


def peak_bytes(jaxpr: core.Jaxpr, count: Bytes, held: Sequence[core.Var] = ()) -> float:
    """The most bytes that are alive at a time, beside the arguments.

    Every result is taken to be written where the trace has it and to live until it is last read: a
    compiler fuses some away, and keeps others longer.

    Args:
      jaxpr: of the program.
      count: says how much each array counts.
      held: arguments that count.
    """
    last = _last_use(jaxpr)
    live = {variable: count(variable.aval) for variable in held}
    now = peak = sum(live.values())
    for place, equation in enumerate(jaxpr.eqns):
        made = {v: count(v.aval) for v in equation.outvars if v in last}
        peak = max(peak, now + max(sum(made.values()), _inside(equation, made, count)))
        live |= made
        now += sum(made.values())
        read = {v for v in equation.invars if isinstance(v, core.Var)} | {*made}
        now -= sum(live.pop(v, 0.0) for v in read if last.get(v) == place)
    return peak


def _inside(equation: core.JaxprEqn, made: dict[core.Var, float], count: Bytes) -> float:
    """The most that is alive while an equation's own programs run."""
    if equation.primitive.name != "scan":
        return max((peak_bytes(one, count) for one in subprograms(equation)), default=0.0)
    # What is stacked is there from the beginning; a slice of what was is gathered or copied.
    (body,) = subprograms(equation)
    sliced = equation.params["num_consts"] + equation.params["num_carry"]
    return sum(made.values()) + peak_bytes(body, count, body.invars[sliced:])


def _last_use(jaxpr: core.Jaxpr) -> dict[core.Var, int]:
    last = {}
    for place, equation in enumerate(jaxpr.eqns):
        # What nobody reads is gone at once.
        last |= dict.fromkeys(equation.outvars, place)
        last |= {v: place for v in equation.invars if isinstance(v, core.Var)}
    return last | {v: len(jaxpr.eqns) for v in jaxpr.outvars if isinstance(v, core.Var)}


def products(jaxpr: core.Jaxpr, times: int = 1) -> Iterator[Product]:
    """The matrix products of a program, those in loops as often as they run."""
    for equation in jaxpr.eqns:
        inner = [*subprograms(equation)]
        again = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        for one in inner:
            yield from products(one, times * again)
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left, right, result = (_array(one) for one in (*equation.invars, equation.outvars[0]))
            terms = math.prod(left.shape[axis] for axis in contracted)
            yield Product(
                times,
                2 * terms * math.prod(result.shape),
                array_bytes(left) + array_bytes(right) + array_bytes(result),
                left.dtype.name,
            )


def _array(operand: Any) -> Any:
    """What is known of an operand's array; jax says it of any value that it may have none."""
    return operand.aval


def subprograms(equation: core.JaxprEqn) -> Iterator[core.Jaxpr]:
    """The programs that an equation runs."""
    for value in equation.params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if isinstance(one, core.ClosedJaxpr):
                yield one.jaxpr
            elif isinstance(one, core.Jaxpr):
                yield one
