"""What a step computes in the encoders of a network of one tower or two."""

from typing import Any

import jax
import numpy as np

from distill.nn import (
    LockedPairNetwork,
    PairNetwork,
    Params,
    VisionNetwork,
    encoder_flops,
)


def forward_flops(network: VisionNetwork, texts: bool) -> int:
    """Operations in the encoders for one example, forward.

    Args:
      network: whose image tower sees an image, unless it is locked and elsewhere.
      texts: whether a pair's text tower reads a text, too.
    """
    return sum(_forward(network, texts).values())


def training_flops(network: VisionNetwork, trained: Params | None, texts: bool) -> int:
    """The same to train the network: three times as much, of towers that are frozen once.

    Args:
      network: see `forward_flops`.
      trained: which parameters are, a tree like them of bools or arrays of bools; None is all.
      texts: see `forward_flops`.
    """
    return sum(
        flops * (3 if trained is None or _any(trained.get(tower, trained)) else 1)
        for tower, flops in _forward(network, texts).items()
    )


def _forward(network: VisionNetwork, texts: bool) -> dict[str, int]:
    """By what a pair calls its towers."""
    found = {}
    if not isinstance(network, LockedPairNetwork):
        found["image"] = encoder_flops(network.tower)
    if texts and isinstance(network, PairNetwork):
        found["text"] = encoder_flops(network.config.text)
    return found


def _any(trained: Any) -> bool:
    return any(np.any(one) for one in jax.tree.leaves(trained))
