"""Per-parameter settings as a list of (regex, value): the first match wins."""

import re
from collections.abc import Sequence
from typing import Any

import jax


def parameter_names(params: Any) -> Any:
    """A tree like `params` with each leaf's path, such as "encoder/blocks/mlp/input/kernel"."""
    return jax.tree.map_with_path(
        lambda path, _: jax.tree_util.keystr(path, simple=True, separator="/"), params
    )


def match_rules(rules: Sequence[tuple[str, Any]], params: Any, default: Any) -> Any:
    """A tree like `params` with the value of the first rule whose regex is found in the name.

    Raises:
      ValueError: for a regex that does not compile or is found in no name.
    """
    compiled = []
    for pattern, value in rules:
        try:
            compiled.append((re.compile(pattern), value))
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    names = parameter_names(params)
    for regex, _ in compiled:
        if not any(regex.search(name) for name in jax.tree.leaves(names)):
            listing = "\n    ".join(jax.tree.leaves(names))
            raise ValueError(f"{regex.pattern!r} matches no parameter; there are\n    {listing}")
    return jax.tree.map(
        lambda name: next((value for regex, value in compiled if regex.search(name)), default),
        names,
    )
