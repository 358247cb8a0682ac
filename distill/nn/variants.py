"""Names of model shapes: "B/16" is shape B with 16-pixel patches."""

import re
from collections.abc import Mapping
from typing import TypedDict


class Shape(TypedDict):
    """What a variant's letter stands for."""

    width: int
    depth: int
    mlp_dim: int
    heads: int


def shape_of(variant: str, shapes: Mapping[str, Shape]) -> dict[str, int]:
    """The fields of `ViTConfig` that a variant such as "B/16" fixes.

    Raises:
      ValueError: if the name is not `shape/patch` with a shape from `shapes`.
    """
    match = re.fullmatch(r"(\w+)/(\d+)", variant)
    if match is None or match[1] not in shapes:
        raise ValueError(
            f"unknown variant {variant!r}; expected one of {', '.join(shapes)} and a patch size, "
            f'such as "{list(shapes)[-1]}/14"'
        )
    return {**shapes[match[1]], "patch_size": int(match[2])}
