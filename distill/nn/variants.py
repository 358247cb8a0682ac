"""Families of vision transformers whose shapes have names: "B/16" is B with 16-pixel patches."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, TypedDict, TypeVar

from distill.bounds import Classes, Side
from distill.nn.family import MODELS, ModelConfig
from distill.nn.vit import ViTConfig

VariantT = TypeVar("VariantT", bound="VariantConfig")

# Earlier versions recorded None where a choice was the variant's own, of every family.
_ONCE_NONE = (
    *("mean", "std", "head", "width", "depth", "mlp_dim", "heads", "position_embedding"),
    *("qkv_bias", "qk_norm", "qk_norm_center", "norm_bias", "norm_center"),
    *("parallel", "fused", "async_linear"),
)


class Shape(TypedDict):
    """What a variant's letter stands for."""

    width: int
    depth: int
    mlp_dim: int
    heads: int


def shape_of(variant: str, shapes: Mapping[str, Shape]) -> dict[str, Any]:
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class VariantConfig(ModelConfig, ViTConfig, tag="family", found_in=MODELS):
    """What a family of vision transformers adds to a `ViTConfig`."""

    shapes: ClassVar[Mapping[str, Shape]]
    """By the letters of its variants."""

    variant: str
    """Shape and patch size, such as B/16: width, depth, mlp_dim, heads and patch_size, where they
    are not given."""
    image_size: Side = 224
    """Side of the images, in pixels."""
    channels: Literal[1, 3] = 3
    num_classes: Classes | None = None
    """0 for a model without a classifier; None takes as many as the data has."""

    @classmethod
    def of(cls: type[VariantT], variant: str, **choices: Any) -> VariantT:
        """The configuration of a variant, with 1000 classes; `choices` override any field.

        Raises:
          ValueError: for an unknown variant or choices that contradict each other.
        """
        named: dict[str, Any] = {"variant": variant, "num_classes": 1000}
        return cls(**named | shape_of(variant, cls.shapes) | choices)

    @classmethod
    def implied(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that the variant fixes where they are not given.

        Raises:
          ValueError: if there is no such variant.
        """
        if "variant" not in given:
            raise ValueError(
                "variant is missing; expected a shape and a patch size, such as "
                f'"{next(iter(cls.shapes))}/16"'
            )
        return shape_of(given["variant"], cls.shapes)

    @classmethod
    def upgraded(cls, recorded: Mapping[str, Any]) -> dict[str, Any]:
        """The choices without those that are none, which are the variant's own."""
        return {
            key: value
            for key, value in recorded.items()
            if key not in _ONCE_NONE or str(value).lower() != "none"
        }

    @property
    def facts(self) -> dict[str, Any]:
        """Sizes, head, images and classes."""
        return {
            "width": self.width,
            "depth": self.depth,
            "MLP": self.mlp_dim,
            "heads": self.heads,
            "head": self.head,
            "images": list(self.image_shape),
            "classes": self.num_classes,
        }
