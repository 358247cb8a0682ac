"""ViT-g, ViT-G and ViT-e: the sequential giants.

g and G: "Scaling Vision Transformers" (arXiv 2106.04560, Table 2); e: PaLI (arXiv 2209.06794).
"""

import dataclasses
from typing import Literal

from distill.nn.variants import Shape, VariantConfig
from distill.nn.vision import VisionNetwork
from distill.nn.vit import VisionTransformer, ViTConfig

SHAPES = {
    "g": Shape(width=1408, depth=40, mlp_dim=6144, heads=16),
    "G": Shape(width=1664, depth=48, mlp_dim=8192, heads=16),
    "e": Shape(width=1792, depth=56, mlp_dim=15360, heads=16),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class GiantViTConfig(VariantConfig):
    """One of the sequential giants.

    Raises:
      ValueError: if the choices contradict each other.
    """

    shapes = SHAPES
    family: Literal["vit_g"] = "vit_g"

    def build(self) -> VisionNetwork:
        """The network; no memory is allocated."""
        return build(self)


def configure(variant: str = "G/14", **choices) -> GiantViTConfig:
    """The configuration of `variant`, such as "G/14"; `choices` override any field.

    Raises:
      ValueError: for an unknown variant or choices that contradict each other.
    """
    return GiantViTConfig.of(variant, **choices)


def build(config: ViTConfig) -> VisionNetwork:
    """The network of `config`; no memory is allocated."""
    return VisionNetwork(config, VisionTransformer)
