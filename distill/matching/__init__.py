"""Function matching: mixup, CutMix and losses."""

from distill.matching.losses import (
    kl_divergence,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
)
from distill.matching.mixup import Mixed, cutmix, mix, mix_labels, mixup, roll

__all__ = [
    "Mixed",
    "cutmix",
    "kl_divergence",
    "mix",
    "mix_labels",
    "mixup",
    "roll",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
]
