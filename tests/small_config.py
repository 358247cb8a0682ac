"""A small config, and what is wrong with one."""

import dataclasses
from typing import Literal

import pytest

from distill.config import ConfigError, resolve


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    learning_rate: float = 0.1
    name: Literal["adam", "sgd"] = "adam"
    decay: tuple[tuple[str, float], ...] = ()
    betas: tuple[float, float] = (0.9, 0.99)

    def __post_init__(self):
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, not {self.learning_rate}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    variant: str
    channels: Literal[1, 3] = 3
    bias: bool | None = None
    width: int | None = None
    sizes: tuple[int, ...] = ()
    name: str | None = None

    def __post_init__(self):
        if self.variant == "nope":
            raise ValueError("unknown variant 'nope'")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    seed: int = 0
    verbose: bool = False
    share: float | None = 0.5
    model: Model
    optimizer: Optimizer = Optimizer()
    teacher: Model | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuned:
    optimizer: Optimizer = Optimizer(learning_rate=7.0, name="sgd")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Careful:
    """Looks into its sections, as a schema that compares two of them must."""

    model: Model
    optimizer: Optimizer

    def __post_init__(self):
        if self.model.channels == 1 and self.optimizer.name == "sgd":
            raise ValueError("sgd needs colour")


BASE = {"model": {"variant": "B"}}


def problems(tree, overrides=(), schema=Run):
    with pytest.raises(ConfigError) as caught:
        resolve(schema, tree, dict(overrides))
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    return caught.value.problems
