"""Learning rates that fall from the head of a vision transformer to its first layers."""

import re
from typing import Any

import jax

from distill.optim.rules import list_parameters

# Of a vision transformer, what its tokens go through before the first block.
_BEFORE_BLOCKS = re.compile(r"^(patch_embed|position|class_token|registers|pre_norm)(/|$)")


def layer_multipliers(decay: float, params: Any, axes: Any) -> Any:
    """A tree like `params` with each one's learning-rate multiplier d^(L + 1 − l).

    Of L blocks, counted from 0, block i is layer l = i + 1; embeddings and other tokens are layer
    0; all that follows the blocks is layer L + 1, with the multiplier 1. BEiT and MAE fine-tune
    with it (arXiv 2106.08254; arXiv 2111.06377, §A.1).

    Args:
      decay: d.
      params: arrays or `jax.ShapeDtypeStruct`s.
      axes: a tree like `params` with each one's logical axes.

    Returns:
      numbers; for stacked blocks, an array that broadcasts over the parameter.

    Raises:
      ValueError: if no blocks are stacked.
    """
    parameters = list_parameters(params, axes)
    depth = max((parameter.blocks for parameter in parameters), default=0)
    if not depth:
        raise ValueError("layer_decay needs stacked blocks, but no parameter has the axis 'layers'")

    def layers(parameter):
        if parameter.blocks:
            return range(1, parameter.blocks + 1)
        return [0 if _BEFORE_BLOCKS.search(parameter.name) else depth + 1]

    multipliers = [
        parameter.by_block([decay ** (depth + 1 - layer) for layer in layers(parameter)])
        for parameter in parameters
    ]
    return jax.tree.unflatten(jax.tree.structure(params), multipliers)
