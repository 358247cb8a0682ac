"""A student with learned projections of its features into its teachers' spaces."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from distill.nn import Params, VisionNetwork, ViTConfig
from distill.nn.layers import Linear

PROJECTIONS = "projections"
"""Their name among the student's parameters."""

Widths = Mapping[str, Mapping[str, int | Mapping[str, int]]]
"""Of some of embedding, tokens and layers, by teacher; of layers also by the name of a pair."""


class Projections(nnx.Module):
    """A linear map from each of the student's features to each teacher's."""

    def __init__(
        self,
        width: int,
        teacher_widths: Widths,
        *,
        rngs: nnx.Rngs,
    ):
        def maps(widths: int | Mapping[str, Any]) -> nnx.Module:
            if isinstance(widths, int):
                return Linear({"embed": width}, {"residual": widths}, rngs=rngs)
            return nnx.Dict({name: maps(size) for name, size in widths.items()})

        for feature, widths in teacher_widths.items():
            setattr(self, feature, maps(widths))


def with_projections(network: VisionNetwork, teacher_widths: Widths) -> VisionNetwork:
    """`network` with projections of its features, or as it is if there are none.

    Its own parameters are drawn as they are without.

    Args:
      network: the student.
      teacher_widths: of what is projected, and where to.
    """
    if not teacher_widths:
        return network
    build = functools.partial(_build, network.build, dict(teacher_widths))
    return dataclasses.replace(network, build=build)


def _build(
    build: Callable[..., nnx.Module],
    teacher_widths: Widths,
    config: ViTConfig,
    *,
    rngs: nnx.Rngs,
) -> nnx.Module:
    module = build(config, rngs=rngs)
    setattr(module, PROJECTIONS, Projections(config.width, teacher_widths, rngs=rngs))
    return module


def project(
    student: VisionNetwork,
    params: Params,
    values: jax.Array,
    feature: str,
    teacher: str,
    pairs: Sequence[str] = (),
) -> jax.Array:
    """The embedding, tokens or layers of a student in the space of a teacher's, float32.

    Args:
      student: as `with_projections` returns it.
      params: of the student, `projections` among them.
      values: of the student, [B, …, D]; of layers [B, pairs, T, D].
      feature: `embedding`, `tokens` or `layers`.
      teacher: its name.
      pairs: of layers, their names.
    """

    def of(module, x):
        maps = getattr(module.projections, feature)[teacher]
        if feature != "layers":
            return maps(x)
        return jnp.stack([maps[name](x[:, place]) for place, name in enumerate(pairs)], axis=1)

    return student.apply(params, values, method=of)
