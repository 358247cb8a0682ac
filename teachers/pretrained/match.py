"""Checks that a file holds a model: finds every parameter's tensor, and a use for every tensor."""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from distill.errors import UserError
from distill.evaluation_view import EvaluationView
from distill.names.rules import Rule, Shape
from distill.nn import TextConfig, ViTConfig
from distill.tensor_files import TensorFile
from teachers.pretrained.settings import what_it_has

_MOST_PROBLEMS = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """What a file says of some of its tensors: which parameters they are."""

    rules: tuple[Rule, ...]
    ignored: tuple[str, ...] = ()
    """Regular expressions of tensors that the model does without."""
    prefix: str = ""
    """What the names of tensors may begin with."""
    zeros: tuple[str, ...] = ()
    """Regular expressions of parameters that are zero where the file has none."""

    @property
    def depth(self) -> int:
        """How many layers there are."""
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextDescription(Part):
    """A text tower as its file stores it."""

    config: TextConfig
    family: Literal["clip", "siglip"]
    """SigLIP 2's towers are SigLIP's but for the tokens they read."""
    added_positions: bool = False
    """Whether there are positions to be added to its position embedding."""

    @property
    def depth(self) -> int:
        """How many layers there are."""
        return self.config.depth


@dataclasses.dataclass(frozen=True, kw_only=True)
class JointDescription(Part):
    """What a pair has beside its towers, as its file stores it."""

    projection: bool
    """Of the image's pooled embedding."""
    projection_bias: bool
    bias: bool
    """Of similarities."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description(Part):
    """A model of images as its file stores it."""

    config: ViTConfig
    """With the image size that the position embedding is for."""
    prefix_positions: int = 0
    """How many tokens in front of the patches have a position embedding."""
    image_size: int | tuple[int, int] | None = None
    """What the model is fed; None is the size its position embedding is for."""
    view: EvaluationView = EvaluationView()
    """What of an image it is shown."""
    class_names: tuple[str, ...] = ()
    interpolation: Callable[[np.ndarray, tuple[int, int]], np.ndarray] | None = None
    """Of the position embedding to another grid; None is `distill.nn.embeddings.resize_grid`."""

    @property
    def depth(self) -> int:
        """How many layers there are."""
        return self.config.depth


def configure(about: Path | str, **choices: Any) -> ViTConfig:
    """`ViTConfig(**choices)`.

    Args:
      about: the file that makes the choices, for messages.

    Raises:
      UserError: if there is no such model.
    """
    with blame(about):
        return ViTConfig(**choices)


@contextmanager
def blame(about: Path | str) -> Iterator[None]:
    """Reports choices that contradict each other as those of the file that makes them."""
    try:
        yield
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
    tensors: Mapping[str, Shape], description: Part, parameters: Mapping[str, Shape]
) -> tuple[list[Source], list[str]]:
    """Finds the tensor of every parameter and a use for every tensor.

    Args:
      tensors: shapes in the file.
      description: of what is looked for in it.
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
    depth = description.depth
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


def match_all(
    file: TensorFile, description: Part, parameters: Mapping[str, Shape], what: str
) -> tuple[Source, ...]:
    """The sources of all parameters, as `match` finds them.

    Args:
      file: in which they are looked for.
      description: as `match` has it.
      parameters: likewise.
      what: the file is not, if something is wrong, such as "timm model", for messages.

    Raises:
      UserError: naming tensors that are missing, misshapen or unknown.
    """
    shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
    sources, problems = match(shapes, description, parameters)
    if not problems:
        return tuple(sources)
    listing = problems[:_MOST_PROBLEMS]
    if more := len(problems) - len(listing):
        listing.append(f"and {more} more")
    if missing := [line.split()[0] for line in problems if " is missing" in line]:
        listing.append(what_it_has(file, missing[0]))
    raise UserError(f"{file.path} is no {what}\n" + "\n".join(f"  {line}" for line in listing))


def _matches(patterns: tuple[str, ...], name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def _without_ones(shape: Shape) -> Shape:
    """Without the leading axes of size 1 that some files have and others do not."""
    while shape and shape[0] == 1:
        shape = shape[1:]
    return shape
