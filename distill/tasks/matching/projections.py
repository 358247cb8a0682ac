"""A student with learned projections of its features into its teachers' spaces."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import jax
from flax import nnx

from distill.nn import Params, VisionNetwork, ViTConfig, ViTOutput
from distill.nn.layers import Linear

PROJECTIONS = "projections"
"""Their name among the student's parameters."""


class Projections(nnx.Module):
    """A linear map from each of the student's features to each teacher's."""

    def __init__(
        self,
        width: int,
        teacher_widths: Mapping[str, Mapping[str, int]],
        *,
        rngs: nnx.Rngs,
    ):
        for feature, widths in teacher_widths.items():
            maps = {
                teacher: Linear({"embed": width}, {"residual": size}, rngs=rngs)
                for teacher, size in widths.items()
            }
            setattr(self, feature, nnx.Dict(maps))


def with_projections(
    network: VisionNetwork, teacher_widths: Mapping[str, Mapping[str, int]]
) -> VisionNetwork:
    """`network` with projections of its features, or as it is if there are none.

    Its own parameters are drawn as they are without.

    Args:
      network: the student.
      teacher_widths: of some of embedding and tokens, by teacher.
    """
    if not teacher_widths:
        return network
    build = functools.partial(_build, network.build, dict(teacher_widths))
    return dataclasses.replace(network, build=build)


def _build(
    build: Callable[..., nnx.Module],
    teacher_widths: Mapping[str, Mapping[str, int]],
    config: ViTConfig,
    *,
    rngs: nnx.Rngs,
) -> nnx.Module:
    module = build(config, rngs=rngs)
    setattr(module, PROJECTIONS, Projections(config.width, teacher_widths, rngs=rngs))
    return module


def project(
    student: VisionNetwork, params: Params, output: ViTOutput, feature: str, teacher: str
) -> jax.Array:
    """The embedding or tokens of a student with projections in the space of a teacher's, float32.

    Args:
      student: as `with_projections` returns it.
      params: of the student, `projections` among them.
      output: of the student.
      feature: `embedding` or `tokens`.
      teacher: its name.
    """

    def of(module, x):
        return getattr(module.projections, feature)[teacher](x)

    return student.apply(params, getattr(output, feature), method=of)
