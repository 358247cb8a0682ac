"""An image tower and a text tower as one model of a run: CLIP, SigLIP, LiT, and their students.

Shapes of text towers: those of big_vision's `text_transformer`, which are the image towers'.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, Self

from distill.bounds import OptionalWidth, Positive, Real, check_fields
from distill.config import execution_keys
from distill.errors import UserError
from distill.nn.execution import Remat
from distill.nn.family import ModelConfig
from distill.nn.layers import Kept
from distill.nn.pair import PairNetwork
from distill.nn.text import TextConfig
from distill.nn.variants import VariantConfig
from students.vit import SHAPES


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextModel(TextConfig):
    """What a config says of a text tower.

    Raises:
      ValueError: if the choices contradict each other.
    """

    variant: str | None = None
    """A shape such as B: width, depth, mlp_dim and heads, where they are not given. None is
    big_vision's default, 512 wide and 12 deep."""

    @classmethod
    def implied(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that the variant fixes where they are not given.

        Raises:
          ValueError: if there is no such variant.
        """
        variant = given.get("variant")
        if variant is None:
            return {}
        if variant not in SHAPES:
            raise ValueError(f"unknown variant {variant!r}; expected one of {', '.join(SHAPES)}")
        return dict(SHAPES[variant])


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairModel(ModelConfig):
    """A pair of towers.

    Raises:
      ValueError: if the towers' embeddings cannot be of one width, or the image tower has classes.
    """

    family: Literal["pair"] = "pair"
    image: VariantConfig | None = None
    """The image tower, without a classifier; None takes the teacher's, which stays as it is."""
    text: TextModel | None = None
    """The text tower; None takes the teacher's, which stays as it is."""
    embed_dim: OptionalWidth | None = None
    """Width of a projection of the image's embedding, 0 for none; None projects it to the width
    that texts have if it has another."""
    projection_bias: bool = False
    bias: bool = False
    """A learnt number is added to similarities, as the sigmoid loss needs it."""
    initial_scale: Positive = 10.0
    """Of similarities, before it is learnt."""
    initial_bias: Real = -10.0
    locked: bool = False
    """The image tower is the teacher's and in none of the run's checkpoints; recorded of a run that
    leaves `image` out."""

    def __post_init__(self):
        check_fields(self)
        if self.image is None:
            return
        if self.image.num_classes:
            raise ValueError(
                f"image.num_classes is {self.image.num_classes}, and an image tower has no "
                "classifier: leave it out"
            )
        if self.text is not None:
            self.network()

    @property
    def towers(self) -> tuple[VariantConfig, TextModel]:
        """Both, where neither is left to the teacher.

        Raises:
          UserError: if one is.
        """
        if self.image is None or self.text is None:
            which = "image" if self.image is None else "text"
            raise UserError(
                f"the model's {which} tower is left to the teacher, and there is none here; say "
                f"what it is: --config.model.{which}.variant=…"
            )
        return dataclasses.replace(self.image, num_classes=0), self.text

    @property
    def channels(self) -> int:
        """Of the images."""
        return self.towers[0].channels

    @property
    def image_size(self) -> int:
        """Side of the images, in pixels."""
        return self.towers[0].image_size

    @property
    def num_classes(self) -> int:
        """None: texts stand for classes."""
        return 0

    @property
    def dtype(self) -> Literal["float32", "bfloat16"]:
        """Of activations."""
        return self.towers[0].dtype

    @property
    def remat(self) -> Remat:
        """What the backward pass computes again."""
        return self.towers[0].remat

    @property
    def remat_keep(self) -> tuple[Kept, ...]:
        """What it does not."""
        return self.towers[0].remat_keep

    @property
    def facts(self) -> dict[str, Any]:
        """Both towers, and the width in which they meet."""
        image, text = self.towers
        named = f"{image.family} {image.variant}"
        return {
            "image tower": f"{named}, {image.image_size} pixels",
            "text tower": f"width {text.width}, depth {text.depth}, {text.vocab:,} tokens, "
            f"{text.length} of a text",
            "embeddings": text.embedding_width,
        }

    def build(self) -> PairNetwork:
        """The network; no memory is allocated.

        Raises:
          UserError: if a tower is left to the teacher.
        """
        image, text = self.towers
        projected = image.width != text.embedding_width
        return PairNetwork.of(
            image.build(),
            text,
            embed_dim=(text.embedding_width if projected else 0)
            if self.embed_dim is None
            else self.embed_dim,
            projection_bias=self.projection_bias,
            bias=self.bias,
            initial_scale=self.initial_scale,
            initial_bias=self.initial_bias,
        )

    def executed(self, **choices: Any) -> Self:
        """The same model, both towers executed otherwise."""
        image, text = self.towers
        return dataclasses.replace(
            self, image=image.executed(**choices), text=dataclasses.replace(text, **choices)
        )

    def executed_as(self, other: Self) -> Self:
        """The same model, each tower executed as another pair's is."""
        (image, text), (theirs, others) = self.towers, other.towers
        keys = execution_keys(type(text))
        return dataclasses.replace(
            self,
            image=image.executed_as(theirs),
            text=dataclasses.replace(text, **{key: getattr(others, key) for key in keys}),
        )
