"""Families of models: what a config's `model` may be."""

import dataclasses
from typing import Any, Literal, TypeVar

from distill.config import OneOf, execution_keys
from distill.errors import UserError
from distill.nn.execution import Remat
from distill.nn.layers import Kept
from distill.nn.vision import VisionNetwork

ModelT = TypeVar("ModelT", bound="ModelConfig")


# Packages of families.
MODELS = ("students", "teachers")


class ModelConfig(OneOf, tag="family", found_in=MODELS):
    """What a config says of a model. Each family is a dataclass below it, in a file of its own.

    A family has a field `family`, a `Literal` of its name, and every choice that makes its
    network, which `build` returns.
    """

    family: str
    image_size: int
    """Side of the images it is trained on, in pixels."""
    channels: int
    num_classes: int | None
    """0 for a model without a classifier; None takes as many as the data has."""

    dtype: Literal["float32", "bfloat16"]
    """Of activations."""
    remat: Remat
    """What the backward pass computes again."""
    remat_keep: tuple[Kept, ...]
    """What it does not."""

    def build(self) -> VisionNetwork:
        """The network, its number of classes known; no memory is allocated."""
        raise NotImplementedError

    @property
    def facts(self) -> dict[str, Any]:
        """What there is to say of the model, by what it is called, for people."""
        return {}

    def network(self) -> VisionNetwork:
        """The network; no memory is allocated.

        Raises:
          UserError: if it is for the data to say how many classes it has.
        """
        if self.num_classes is None:
            raise UserError(
                "the model has as many classes as the data, and none is read here; say how many: "
                "--config.model.num_classes=N"
            )
        return self.build()

    def executed(self: ModelT, **choices: Any) -> ModelT:
        """The same model with other choices of how it is executed, such as `dtype`."""
        return dataclasses.replace(self, **choices)

    def executed_as(self: ModelT, other: ModelT) -> ModelT:
        """The same model, executed as another one of its family is."""
        keys = execution_keys(type(self))
        return dataclasses.replace(self, **{key: getattr(other, key) for key in keys})

    def with_classes(self: ModelT, count: int | None) -> ModelT:
        """The model with so many classes, unless it says how many it has; None leaves it open."""
        if self.num_classes is not None:
            return self
        return dataclasses.replace(self, num_classes=count)
