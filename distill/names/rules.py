"""How tensors of a file and parameters are each other: by name, by layout, in tables of rules."""

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np

Shape = tuple[int, ...]

# Of the tokens in front of the patches: no parameter of the model, which adds it to those tokens.
PREFIX_POSITIONS = "position/prefix"
# Likewise: of all tokens of a text, beside the position embedding.
ADDED_POSITIONS = "added_positions"


class Layout(NamedTuple):
    """How a file lays out a parameter: some axes become one, then axes change places."""

    merged: Callable[[Shape], Shape]
    """The parameter's shape with axes made one."""
    order: tuple[int, ...] | None = None
    """Which of those axes the file has first, second, …; None keeps them."""
    axis: int = 0
    """Along which several parameters follow each other in one tensor."""

    def stored(self, shape: Shape) -> Shape:
        """The tensor's shape in the file, of the parameter's."""
        merged = self.merged(shape)
        return merged if self.order is None else tuple(merged[axis] for axis in self.order)

    def read(self, tensor: np.ndarray, shape: Shape) -> np.ndarray:
        """The parameter of this shape."""
        if self.order is not None:
            tensor = tensor.transpose(np.argsort(self.order))
        return tensor.reshape(shape)

    def write(self, parameter: np.ndarray) -> np.ndarray:
        """The tensor in the file."""
        tensor = parameter.reshape(self.merged(parameter.shape))
        return tensor if self.order is None else tensor.transpose(self.order)


SAME = Layout(lambda shape: shape)
VECTOR = Layout(lambda shape: (math.prod(shape),))
"""The bias of heads, [H·K], or any vector."""
ROWS = Layout(lambda shape: (1, math.prod(shape[:-1]), shape[-1]), axis=1)
"""Tokens or positions, [1, T, D]."""
TABLE = Layout(lambda shape: (math.prod(shape[:-1]), shape[-1]))
"""Positions, [T, D]."""
LINEAR = Layout(lambda shape: (shape[0], math.prod(shape[1:])), (1, 0))
"""PyTorch's [out, in] of a kernel [in, *out]."""
FROM_HEADS = Layout(lambda shape: (math.prod(shape[:-1]), shape[-1]), (1, 0))
"""PyTorch's [out, in] of a kernel [*in, out]."""
CONVOLUTION = Layout(lambda shape: shape, (3, 2, 0, 1))
"""PyTorch's [out, in, height, width] of a kernel [height, width, in, out]."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """Which parameters a tensor holds; several follow each other along an axis of their layout."""

    tensor: str
    """In the file; # is a layer's number."""
    layout: Layout
    parameters: tuple[str, ...]

    def stored(self, shapes: Collection[Shape]) -> Shape:
        """The tensor's shape in the file, of its parameters' shapes."""
        parts = np.array([self.layout.stored(shape) for shape in shapes])
        whole = parts[0].copy()
        whole[self.layout.axis] = parts[:, self.layout.axis].sum()
        return tuple(whole.tolist())

    def read(self, tensor: np.ndarray, shapes: Collection[Shape]) -> list[np.ndarray]:
        """The parameters of a tensor in the file, which may lack leading axes of size 1."""
        axis = self.layout.axis
        sizes = [self.layout.stored(shape)[axis] for shape in shapes]
        parts = np.split(tensor.reshape(self.stored(shapes)), np.cumsum(sizes)[:-1], axis)
        return [self.layout.read(part, shape) for part, shape in zip(parts, shapes, strict=True)]

    def write(self, parameters: Iterable[np.ndarray]) -> np.ndarray:
        """The tensor of its parameters."""
        parts = [self.layout.write(parameter) for parameter in parameters]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, self.layout.axis)


def rule(tensor: str, layout: Layout, *parameters: str) -> tuple[Rule, ...]:
    """A tensor and its parameters."""
    return (Rule(tensor, layout, parameters),)


def linear(tensor: str, *parameters: str, layout: Layout = LINEAR) -> tuple[Rule, ...]:
    """A linear map of PyTorch: weight and bias; several that are one matrix in the file."""
    return (
        Rule(f"{tensor}.weight", layout, tuple(f"{name}/kernel" for name in parameters)),
        Rule(f"{tensor}.bias", VECTOR, tuple(f"{name}/bias" for name in parameters)),
    )


def norm(tensor: str, parameter: str) -> tuple[Rule, ...]:
    """A LayerNorm of PyTorch."""
    return (
        Rule(f"{tensor}.weight", VECTOR, (f"{parameter}/scale",)),
        Rule(f"{tensor}.bias", VECTOR, (f"{parameter}/bias",)),
    )


def flax(tensor: str, parameter: str, *names: str) -> tuple[Rule, ...]:
    """A module of Flax, whose parameters `names` are laid out as they are here."""
    return tuple(Rule(f"{tensor}/{name}", SAME, (f"{parameter}/{name}",)) for name in names)


def write_tensors(
    rules: Collection[Rule], parameters: Mapping[str, np.ndarray], depth: int
) -> dict[str, np.ndarray]:
    """The tensors of a file by their names there.

    Args:
      rules: the file's table; a rule for parameters that the model has not is passed over.
      parameters: by name such as "encoder/blocks/mlp/input/kernel", of all layers.
      depth: how many layers those are.

    Raises:
      ValueError: if no rule holds one of the parameters.
    """
    tensors, written = {}, set()
    for one in rules:
        if not set(one.parameters) <= parameters.keys():
            continue
        written.update(one.parameters)
        values = [parameters[name] for name in one.parameters]
        if "#" not in one.tensor:
            tensors[one.tensor] = one.write(values)
            continue
        for layer in range(depth):
            name = one.tensor.replace("#", str(layer))
            tensors[name] = one.write(value[layer] for value in values)
    if nameless := parameters.keys() - written:
        raise ValueError(f"there is no name for {', '.join(sorted(nameless))}")
    return tensors
