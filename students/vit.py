"""The plain ViTs, mu to H, at any patch size: what teachers are distilled into.

Shapes: "Scaling Vision Transformers" (arXiv 2106.04560, Table 2) for s, Ti, S, B and L;
So400m: arXiv 2305.13035; mu, M and H: the reference implementation.
"""

import dataclasses
from typing import Literal

from distill.nn.variants import Shape, VariantConfig
from distill.nn.vision import VisionNetwork
from distill.nn.vit import VisionTransformer, ViTConfig

SHAPES = {
    "mu": Shape(width=32, depth=1, mlp_dim=128, heads=2),
    "Ti": Shape(width=192, depth=12, mlp_dim=768, heads=3),
    "s": Shape(width=256, depth=6, mlp_dim=1024, heads=8),
    "S": Shape(width=384, depth=12, mlp_dim=1536, heads=6),
    "M": Shape(width=512, depth=12, mlp_dim=2048, heads=8),
    "B": Shape(width=768, depth=12, mlp_dim=3072, heads=12),
    "L": Shape(width=1024, depth=24, mlp_dim=4096, heads=16),
    "So400m": Shape(width=1152, depth=27, mlp_dim=4304, heads=16),
    "H": Shape(width=1280, depth=32, mlp_dim=5120, heads=16),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlainViTConfig(VariantConfig):
    """One of the plain ViTs.

    Raises:
      ValueError: if the choices contradict each other.
    """

    shapes = SHAPES
    family: Literal["vit"] = "vit"

    def build(self) -> VisionNetwork:
        """The network; no memory is allocated."""
        return build(self)


def configure(variant: str, **choices) -> PlainViTConfig:
    """The configuration of `variant`, such as "B/16"; `choices` override any field.

    Raises:
      ValueError: for an unknown variant or choices that contradict each other.
    """
    return PlainViTConfig.of(variant, **choices)


def named(config: ViTConfig) -> PlainViTConfig:
    """A vision transformer of any shape as one of this family, by the variant of nearest width."""
    letter = min(SHAPES, key=lambda one: abs(SHAPES[one]["width"] - config.width))
    return configure(f"{letter}/{config.patch_size}", **vars(config))


def build(config: ViTConfig) -> VisionNetwork:
    """The network of `config`; no memory is allocated."""
    return VisionNetwork(config, VisionTransformer)
