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
        features: tuple[str, ...],
        width: int,
        teacher_widths: Mapping[str, int],
        *,
        rngs: nnx.Rngs,
    ):
        for feature in features:
            maps = {
                teacher: Linear({"embed": width}, {"residual": size}, rngs=rngs)
                for teacher, size in teacher_widths.items()
            }
            setattr(self, feature, nnx.Dict(maps))


@dataclasses.dataclass(frozen=True)
class ProjectedNetwork(VisionNetwork):
    """A network whose parameters have `projections` beside its own."""

    def project(self, params: Params, output: ViTOutput, feature: str, teacher: str) -> jax.Array:
        """The student's embedding or tokens in the space of a teacher's, float32."""

        def project(module, x):
            return getattr(module.projections, feature)[teacher](x)

        return self.apply(params, getattr(output, feature), method=project)


def with_projections(
    network: VisionNetwork, features: tuple[str, ...], teacher_widths: Mapping[str, int]
) -> VisionNetwork:
    """`network` with projections of `features`, or as it is if there are none.

    Its own parameters are drawn as they are without.

    Args:
      network: the student.
      features: some of embedding and tokens.
      teacher_widths: by teacher.
    """
    if not features:
        return network
    build = functools.partial(_build, network.build, features, dict(teacher_widths))
    return ProjectedNetwork(network.config, build, network.placement)


def _build(
    build: Callable[..., nnx.Module],
    features: tuple[str, ...],
    teacher_widths: Mapping[str, int],
    config: ViTConfig,
    *,
    rngs: nnx.Rngs,
) -> nnx.Module:
    module = build(config, rngs=rngs)
    module.projections = Projections(features, config.width, teacher_widths, rngs=rngs)
    return module
