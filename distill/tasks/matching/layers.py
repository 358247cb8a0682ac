"""Tokens after chosen layers, of a student and of its teachers, and which are compared."""

from collections.abc import Mapping

import jax
import numpy as np

from distill.nn import Params, VisionNetwork, ViTOutput
from distill.subject import Teacher
from distill.tasks.matching.config import Layers, MatchingConfig


def layers_of_teacher(config: MatchingConfig, teacher: str) -> tuple[int, ...]:
    """The layers of a teacher that a student is compared with, ascending."""
    return tuple(sorted({theirs for _, theirs in config.pairs(teacher)}))


def layers_of_student(config: MatchingConfig, teachers: Mapping[str, Teacher]) -> tuple[int, ...]:
    """The layers of a student that are compared with some teacher's, ascending."""
    return tuple(sorted({ours for name in teachers for ours, _ in config.pairs(name)}))


def compared_layers(
    layers: tuple[int, ...], tokens: jax.Array, pairs: Layers, side: int
) -> jax.Array:
    """Of the tokens [B, K, T, D] of K layers, those of each pair, [B, pairs, T, D].

    Args:
      layers: which K.
      tokens: theirs.
      pairs: of the student's and the teacher's layers.
      side: which of a pair, 0 or 1.
    """
    wanted = [pair[side] for pair in pairs]
    return tokens if wanted == [*layers] else tokens[:, np.array([*map(layers.index, wanted)])]


def pair_name(pair: tuple[int, int]) -> str:
    """What the projection of a pair of layers is called."""
    return f"{pair[0]}_{pair[1]}"


def apply_with_layers(
    network: VisionNetwork,
    params: Params,
    views: jax.Array,
    layers: tuple[int, ...],
    *,
    normed: bool,
) -> tuple[ViTOutput, jax.Array | None]:
    """What a network makes of views, and the tokens [B, K, T, D] after K layers, at once.

    Args:
      network: of the model.
      params: its parameters.
      views: [B, height, width, C] in [0, 255].
      layers: which; without any there are no tokens of layers.
      normed: whether these go through the final norm.
    """
    images = network.prepare(views)
    if not layers:
        return network.apply(params, images), None
    output, found = network.with_layers(params, images, layers, normed=normed)
    batch, count, rows, columns, width = found.patches.shape
    return output, found.patches.reshape(batch, count, rows * columns, width)


def check_layers_there(
    config: MatchingConfig, student: VisionNetwork, teachers: Mapping[str, Teacher]
) -> None:
    """Checks that all models have the layers that are compared, and all teachers some.

    Raises:
      ValueError: if they have not, or a teacher is named that is not there.
    """
    if "layers" not in config.losses.features:
        return
    if unknown := sorted(config.layers_of.keys() - teachers.keys()):
        raise ValueError(f"layers_of names {unknown[0]}; teachers are {', '.join(teachers)}")
    for name, teacher in teachers.items():
        layers = layers_of_teacher(config, name)
        if not layers:
            raise ValueError(f"nothing names layers of teacher {name}; give layers_of.{name}")
        _check(f"teacher {name}", layers, teacher.network)
    _check("the student", layers_of_student(config, teachers), student)


def _check(whose: str, layers: tuple[int, ...], network: VisionNetwork) -> None:
    depth = network.tower.depth
    if layers[-1] > depth:
        raise ValueError(f"{whose} has {depth} layers, and layers names layer {layers[-1]}")
