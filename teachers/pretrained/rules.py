"""How tensors of a file become parameters: by name, by layout, one table per family of models."""

import dataclasses
import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import numpy as np

from distill.nn import ViTConfig
from teachers.pretrained.files import Shape

# Of the tokens in front of the patches: no parameter of the model, which adds it to those tokens.
PREFIX_POSITIONS = "position/prefix"


class Layout(NamedTuple):
    """How a file lays out a parameter."""

    stored: Callable[[Shape], Shape]
    """The tensor's shape in the file, of the parameter's shape."""
    read: Callable[[np.ndarray, Shape], np.ndarray]
    """The parameter, of the tensor in that shape and the parameter's shape."""


def _reshape(array: np.ndarray, shape: Shape) -> np.ndarray:
    return array.reshape(shape)


def _transpose(array: np.ndarray, shape: Shape) -> np.ndarray:
    return array.T.reshape(shape)


SAME = Layout(lambda shape: shape, _reshape)
VECTOR = Layout(lambda shape: (math.prod(shape),), _reshape)
"""The bias of heads, [H·K], or any vector."""
ROWS = Layout(lambda shape: (math.prod(shape[:-1]), shape[-1]), _reshape)
"""Tokens or positions, a row each."""
LINEAR = Layout(lambda shape: (math.prod(shape[1:]), shape[0]), _transpose)
"""PyTorch's [out, in] of a kernel [in, *out]."""
FROM_HEADS = Layout(lambda shape: (shape[-1], math.prod(shape[:-1])), _transpose)
"""PyTorch's [out, in] of a kernel [*in, out]."""
CONVOLUTION = Layout(
    lambda shape: (shape[3], shape[2], shape[0], shape[1]),
    lambda array, _: array.transpose(2, 3, 1, 0),
)
"""PyTorch's [out, in, height, width] of a kernel [height, width, in, out]."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """Where a tensor goes. Several parameters lie one after the other along its first axis."""

    tensor: str
    """In the file; # is a layer's number."""
    layout: Layout
    parameters: tuple[str, ...]

    def stored(self, shapes: Collection[Shape]) -> Shape:
        """The tensor's shape in the file, of its parameters' shapes."""
        parts = [self.layout.stored(shape) for shape in shapes]
        return (sum(part[0] for part in parts), *parts[0][1:])

    def read(self, tensor: np.ndarray, shapes: Collection[Shape]) -> list[np.ndarray]:
        """The parameters of a tensor in the file."""
        sizes = [self.layout.stored(shape)[0] for shape in shapes]
        tensor = tensor.reshape(self.stored(shapes))
        parts = np.split(tensor, np.cumsum(sizes)[:-1]) if len(sizes) > 1 else [tensor]
        return [self.layout.read(part, shape) for part, shape in zip(parts, shapes, strict=True)]


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
    """A model as its file stores it."""

    config: ViTConfig
    """With the image size that the position embedding is for."""
    rules: tuple[Rule, ...]
    ignored: tuple[str, ...] = ()
    """Regular expressions of tensors that the model does without."""
    prefix: str = ""
    """What the names of tensors may begin with."""
    zeros: tuple[str, ...] = ()
    """Regular expressions of parameters that are zero where the file has none."""
    prefix_positions: int = 0
    """How many tokens in front of the patches have a position embedding."""
    image_size: int | tuple[int, int] | None = None
    """What the model is fed; None is the size its position embedding is for."""
    class_names: tuple[str, ...] = ()
    interpolation: Callable[[np.ndarray, tuple[int, int]], np.ndarray] | None = None
    """Of the position embedding to another grid; None is `distill.nn.embeddings.resize_grid`."""


class Source(NamedTuple):
    """Which tensor of a file holds which parameters."""

    tensor: str
    rule: Rule
    layer: int | None
    """The number of the layer in stacked parameters; None is all of them."""
    shapes: tuple[Shape, ...]
    """Of the parameters, in that layer."""


def match(
    tensors: Mapping[str, Shape], description: Description, parameters: Mapping[str, Shape]
) -> tuple[list[Source], list[str]]:
    """Finds the tensor of every parameter and a use for every tensor.

    Args:
      tensors: shapes in the file.
      description: of the model.
      parameters: shapes by name such as "encoder/blocks/mlp/input/kernel".

    Returns:
      The sources, and what is wrong, a line each.
    """
    names = {name.removeprefix(description.prefix): name for name in tensors}
    if len(names) < len(tensors):
        return [], [f"tensors are there with and without {description.prefix!r}"]
    depth = description.config.depth
    if depth > len(tensors):
        return [], [f"there are {len(tensors)} tensors, not those of {depth} layers"]
    sources, problems, used = [], [], set()
    for one in description.rules:
        if not set(one.parameters) <= parameters.keys():
            continue
        for layer in range(depth) if "#" in one.tensor else [None]:
            tensor = one.tensor.replace("#", str(layer))
            shapes = tuple(parameters[name][layer is not None :] for name in one.parameters)
            expected = one.stored(shapes)
            if tensor not in names:
                if not all(_matches(description.zeros, name) for name in one.parameters):
                    problems.append(f"{tensor} is missing; expected {list(expected)}")
                continue
            used.add(tensor)
            found = tensors[names[tensor]]
            if _without_ones(found) != _without_ones(expected):
                problems.append(f"{names[tensor]} is {list(found)}; expected {list(expected)}")
                continue
            sources.append(Source(names[tensor], one, layer, shapes))
    unknown = [
        full
        for name, full in names.items()
        if name not in used and not _matches(description.ignored, name)
    ]
    problems += [
        f"{name} {list(tensors[name])} belongs to nothing in the model" for name in unknown
    ]
    return sources, problems


def _matches(patterns: tuple[str, ...], name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def _without_ones(shape: Shape) -> Shape:
    """Without the leading axes of size 1 that some files have and others do not."""
    while shape and shape[0] == 1:
        shape = shape[1:]
    return shape
