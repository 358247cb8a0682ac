"""Per-parameter settings as a list of (regex, value): the first match wins."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

# What the encoder calls the module that stacks its blocks, and the axis along which it does.
_STACK, _STACKED = "blocks", "layers"


def parameter_names(params: Any) -> Any:
    """A tree like `params` with each leaf's path, such as "encoder/blocks/mlp/input/kernel"."""
    return jax.tree.map_with_path(
        lambda path, _: jax.tree_util.keystr(path, simple=True, separator="/"), params
    )


class Parameter(NamedTuple):
    """What settings by parameter go by."""

    name: str
    shape: tuple[int, ...]
    axes: tuple[str | None, ...]
    """Logical ones; empty if none are known."""

    @property
    def blocks(self) -> int:
        """How many of the encoder's blocks are stacked in it; 0 if it is no stack."""
        return self.shape[self.axes.index(_STACKED)] if _STACKED in self.axes else 0

    def of_block(self, number: int | str) -> str:
        """The name of one block's part, such as "encoder/blocks/3/mlp/input/kernel"."""
        return re.sub(f"(^|/){_STACK}/", rf"\g<0>{number}/", self.name, count=1)

    def by_block(self, values: Sequence[Any]) -> Any:
        """The one value of all blocks, or an array of them that broadcasts over the parameter.

        Args:
          values: of each block; of one that is no stack, a single value.
        """
        if all(value == values[0] for value in values):
            return values[0]
        return np.reshape(values, [-1 if axis == _STACKED else 1 for axis in self.axes])


def list_parameters(params: Any, axes: Any = None) -> list[Parameter]:
    """The leaves of `params`, in the order of `jax.tree.leaves`.

    Args:
      params: arrays or `jax.ShapeDtypeStruct`s.
      axes: a tree like `params` with each one's logical axes; None if they are not known.
    """
    names, treedef = jax.tree.flatten(parameter_names(params))
    logical = [()] * len(names) if axes is None else treedef.flatten_up_to(axes)
    return [
        Parameter(name, np.shape(leaf), tuple(of_leaf))
        for name, leaf, of_leaf in zip(names, jax.tree.leaves(params), logical, strict=True)
    ]


def match_rules(
    rules: Sequence[tuple[str, Any]], params: Any, default: Any, axes: Any = None
) -> Any:
    """A tree like `params` with the value of the first rule whose regex is found in the name.

    What stacks the encoder's blocks has its whole name, and one for each block with the block's
    number: "encoder/blocks/mlp/input/kernel" and "encoder/blocks/3/mlp/input/kernel". Where blocks
    get different values, they are an array that broadcasts over the parameter.

    Args:
      rules: (regex, value) pairs.
      params: arrays or `jax.ShapeDtypeStruct`s.
      default: the value where no regex is found.
      axes: a tree like `params` with each one's logical axes; None if nothing is stacked.

    Raises:
      ValueError: for a regex that does not compile, is found in no name, or in none but those
        that earlier ones take.
    """
    regexes = [_compile(pattern) for pattern, _ in rules]
    parameters = list_parameters(params, axes)
    # Per parameter and block, the rules that match.
    matches = [_matching(regexes, parameter) for parameter in parameters]
    _check_used([pattern for pattern, _ in rules], parameters, matches)
    values = [
        parameter.by_block([rules[found[0]][1] if found else default for found in of_blocks])
        for parameter, of_blocks in zip(parameters, matches, strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(params), values)


def _compile(pattern: str) -> re.Pattern:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error


def _matching(regexes: Sequence[re.Pattern], parameter: Parameter) -> list[list[int]]:
    """For each block, or once for what is no stack, the numbers of the regexes that match.

    A block's name counts only where its number makes a difference to the regex. Elsewhere the whole
    name decides, so that a regex that does not think of blocks, such as
    "^(?!encoder/blocks/mlp)", means the whole.
    """
    found = [[] for _ in range(parameter.blocks or 1)]
    for number, regex in enumerate(regexes):
        whole = bool(regex.search(parameter.name))
        any_block = bool(regex.search(parameter.of_block("#")))
        for block, of_block in enumerate(found):
            one = bool(regex.search(parameter.of_block(block)))
            if whole if not parameter.blocks or one == any_block else one:
                of_block.append(number)
    return found


def _check_used(
    patterns: Sequence[str], parameters: Sequence[Parameter], matches: list[list[list[int]]]
) -> None:
    """Refuses rules that decide nothing."""
    every = [found for of_blocks in matches for found in of_blocks if found]
    for number, pattern in enumerate(patterns):
        takers = {found[0] for found in every if number in found}
        if not takers:
            listing = "\n    ".join(parameter.name for parameter in parameters)
            depth = max((parameter.blocks for parameter in parameters), default=0)
            single = f"\n  and of single blocks {_STACK}/0/… to {_STACK}/{depth - 1}/…"
            raise ValueError(
                f"{pattern!r} matches no parameter; there are\n    {listing}{single * (depth > 0)}"
            )
        if number not in takers:
            earlier = " and ".join(repr(patterns[taker]) for taker in sorted(takers))
            raise ValueError(
                f"{pattern!r} decides nothing: all its parameters go to {earlier} before it; put "
                "the special one first"
            )
