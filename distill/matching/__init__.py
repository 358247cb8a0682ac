"""Function matching: mixup and losses."""

from distill.matching.losses import (
    kl_divergence,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
)
from distill.matching.mixup import Mixed, mix_labels, mixup, roll

__all__ = [
    "Mixed",
    "kl_divergence",
    "mix_labels",
    "mixup",
    "roll",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
]
