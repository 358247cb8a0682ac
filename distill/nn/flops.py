"""Floating-point operations of a function, counted from its trace: nothing is computed."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend import core

from distill.nn.text import TextConfig
from distill.nn.vit import ViTConfig

# Primitives that move, cast or compare data, and so cost no arithmetic.
_FREE = frozenset(
    "broadcast_in_dim reshape transpose convert_element_type slice dynamic_slice concatenate "
    "squeeze copy iota gather select_n stop_gradient rev pad eq ne lt le gt ge and or not "
    "sharding_constraint split expand_dims bitcast_convert_type optimization_barrier name".split()
)


class Flops(NamedTuple):
    """Operations, a multiply-add counting as two."""

    matrix: int
    """In matrix products and convolutions: what MFU counts."""
    elementwise: int
    """In everything else, one per element of each operation's output."""

    @property
    def total(self) -> int:
        """Both: what Table 2 of arXiv 2106.04560 reports."""
        return self.matrix + self.elementwise

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(self.matrix + other.matrix, self.elementwise + other.elementwise)

    def times(self, count: int) -> "Flops":
        """The cost of running this `count` times."""
        return Flops(self.matrix * count, self.elementwise * count)


def count_flops(function: Callable[..., Any], *args: Any) -> Flops:
    """Counts the operations of `function(*args)`; args may be `jax.ShapeDtypeStruct`s."""
    return _count(jax.make_jaxpr(function)(*args).jaxpr)


def encoder_flops(config: ViTConfig | TextConfig) -> int:
    """Operations in the encoder's products for one image or text, forward: 2·N·T + 4·L·D·T².

    N parameters in the kernels of its L layers, T tokens of D features. Training takes three times
    as much, 6·N·T + 12·L·D·T², which is what MFU counts (arXiv 2204.02311, appendix B): no
    embedding, no head, and nothing that rematerialisation computes again. What a causal mask hides
    is counted.
    """
    width, tokens = config.width, config.sequence_length
    kernels = config.depth * (4 * width * width + (2 + config.gated) * width * config.mlp_dim)
    return 2 * kernels * tokens + 4 * config.depth * width * tokens**2


def _count(jaxpr: core.Jaxpr) -> Flops:
    total = Flops(0, 0)
    for equation in jaxpr.eqns:
        total = total + _count_equation(equation)
    return total


def _count_equation(equation: core.JaxprEqn) -> Flops:
    name, params = equation.primitive.name, equation.params
    inner = [_count(j) for v in params.values() for j in _jaxprs(v)]
    if inner:
        return sum(inner, Flops(0, 0)).times(params.get("length", 1))
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        lhs = _shape(equation.invars[0])
        terms = math.prod(lhs[axis] for axis in contracted)
        return Flops(2 * terms * math.prod(_shape(equation.outvars[0])), 0)
    if name == "conv_general_dilated":
        kernel = _shape(equation.invars[1])
        features = kernel[params["dimension_numbers"].rhs_spec[0]]
        terms = math.prod(kernel) // features
        return Flops(2 * terms * math.prod(_shape(equation.outvars[0])), 0)
    if name in _FREE:
        return Flops(0, 0)
    # A reduction reads each input once; an elementwise operation writes each output once.
    variables = equation.invars if name.startswith("reduce_") else equation.outvars
    return Flops(0, sum(math.prod(_shape(v)) for v in variables))


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _jaxprs(value: Any) -> list[core.Jaxpr]:
    if isinstance(value, core.ClosedJaxpr):
        return [value.jaxpr]
    if isinstance(value, core.Jaxpr):
        return [value]
    return []
