"""Checks that a file holds a model: finds every parameter's tensor, and a use for every tensor."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from distill.errors import UserError
from distill.evaluation_view import EvaluationView
from distill.names.rules import Rule, Shape
from distill.nn import ViTConfig


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
    view: EvaluationView = EvaluationView()
    """What of an image it is shown."""
    class_names: tuple[str, ...] = ()
    interpolation: Callable[[np.ndarray, tuple[int, int]], np.ndarray] | None = None
    """Of the position embedding to another grid; None is `distill.nn.embeddings.resize_grid`."""


def configure(about: Path | str, **choices: Any) -> ViTConfig:
    """`ViTConfig(**choices)`.

    Args:
      about: the file that makes the choices, for messages.

    Raises:
      UserError: if there is no such model.
    """
    try:
        return ViTConfig(**choices)
    except ValueError as error:
        raise UserError(f"{about}: {error}") from error


def whole_patches(size: int | tuple[int, int], patch_size: int) -> int | tuple[int, int]:
    """As much of an image, in pixels, as its patches cover: 378 of 384 in patches of 14.

    Where the original's convolution reads no further, models are fed images of this size here.
    """
    if isinstance(size, int):
        return size // patch_size * patch_size
    height, width = (side // patch_size * patch_size for side in size)
    return height, width


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
    reached = {name for one in description.rules for name in one.parameters}
    if nameless := parameters.keys() - reached:
        return [], [f"nothing in it is known to be {name}" for name in sorted(nameless)]
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
