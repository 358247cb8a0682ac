"""Teachers' features with mean 0 and variance 1, so that those of all teachers count alike."""

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from distill.errors import RunFailed
from distill.tasks.matching.hadamard import hadamard
from distill.tasks.matching.targets import Answers

Kind = Literal["standard", "phi_s"]
Statistics = dict[str, dict[str, dict[str, Any]]]
"""By feature and teacher: `mean` [D], and `scale` [D] or `rotation` [D, D], float32; of K layers
they lead with K."""

STATISTICS = "/statistics"
"""Their name among what is frozen, which is no teacher's."""

_MEAN, _SCALE, _ROTATION = "mean", "scale", "rotation"

# Of the mean variance: dimensions that vary less are as good as constant, and are not blown up.
_SMALLEST_SHARE = 1e-6


def abstract_statistics(
    kind: Kind, shapes: Mapping[str, Mapping[str, tuple[int, ...]]]
) -> Statistics:
    """The statistics as `jax.ShapeDtypeStruct`s.

    Args:
      kind: of the standardisation.
      shapes: of the means, by feature and teacher.

    Raises:
      ValueError: for a width that PHI-S cannot turn.
    """

    def of(name: str, shape: tuple[int, ...]) -> dict[str, jax.ShapeDtypeStruct]:
        mean = jax.ShapeDtypeStruct(shape, np.float32)
        if kind == "standard":
            return {_MEAN: mean, _SCALE: mean}
        try:
            hadamard(shape[-1])
        except ValueError as error:
            raise ValueError(
                f"standardise='phi_s' turns features of teacher {name}, {shape[-1]} wide, and "
                f"{error}; type --config.matching.standardise=standard"
            ) from error
        return {_MEAN: mean, _ROTATION: jax.ShapeDtypeStruct((*shape, shape[-1]), np.float32)}

    return {
        feature: {name: of(name, shape) for name, shape in teachers.items()}
        for feature, teachers in shapes.items()
    }


def standardise(answers: Answers, statistics: Statistics) -> Answers:
    """What teachers say, standardised, float32; features without statistics are left out."""
    return {
        feature: {
            name: _by_layer(answers[feature][name], one)
            if feature == "layers"
            else _apply(answers[feature][name], one)
            for name, one in teachers.items()
        }
        for feature, teachers in statistics.items()
    }


def _by_layer(values: jax.Array, statistics: dict[str, jax.Array]) -> jax.Array:
    return jax.vmap(_apply, in_axes=(1, 0), out_axes=1)(values, statistics)


def _apply(values: jax.Array, statistics: dict[str, jax.Array]) -> jax.Array:
    """[B, …, D]."""
    centred = values.astype(jnp.float32) - statistics[_MEAN]
    if _SCALE in statistics:
        return centred * statistics[_SCALE]
    return jnp.matmul(centred, statistics[_ROTATION], precision="highest")


def batch_moments(
    answers: Answers, features: Mapping[str, object], kind: Kind
) -> dict[str, dict[str, tuple[jax.Array, jax.Array]]]:
    """Of a batch, by feature and teacher, the mean of each vector and of its (co)variances.

    Args:
      answers: of teachers.
      features: which to take.
      kind: "standard" takes variances [D], "phi_s" covariances [D, D].
    """

    def of(feature: str, values: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = values.astype(jnp.float32)
        if feature == "layers":
            x = jnp.moveaxis(x, 1, 0)
            x = x.reshape(len(x), -1, x.shape[-1])
        else:
            x = x.reshape(-1, x.shape[-1])
        mean = jnp.mean(x, axis=-2)
        x = x - mean[..., None, :]
        if kind == "standard":
            return mean, jnp.mean(jnp.square(x), axis=-2)
        products = jnp.matmul(jnp.swapaxes(x, -1, -2), x, precision="highest")
        return mean, products / x.shape[-2]

    return {
        feature: {name: of(feature, values) for name, values in answers[feature].items()}
        for feature in features
    }


class Moments:
    """Mean and (co)variance of vectors [D] of many batches of one size, in float64."""

    def __init__(self):
        self._batches = 0
        self._mean: np.ndarray | float = 0.0
        self._second: np.ndarray | float = 0.0

    def add(self, mean: np.ndarray, spread: np.ndarray) -> None:
        """Adds a batch: its mean [..., D] and its variances [..., D] or covariances [..., D, D]."""
        mean = np.asarray(mean, np.float64)
        self._batches += 1
        self._mean = self._mean + mean
        self._second = self._second + spread + _square(mean, spread)

    def statistics(self, what: str) -> dict[str, np.ndarray]:
        """What standardises them, float32: see `Statistics`.

        Args:
          what: they are of, for a message.

        Raises:
          RunFailed: if all vectors are the same, or some are not finite.
        """
        mean = np.asarray(self._mean) / self._batches
        second = np.asarray(self._second) / self._batches
        spread = second - _square(mean, second)
        variances = spread if spread.ndim == mean.ndim else np.diagonal(spread, 0, -2, -1)
        level = np.mean(variances, axis=-1, keepdims=True)
        if not (np.isfinite(level).all() and (level > 0).all()):
            raise RunFailed(
                f"{what} has no variance to divide by: all are the same, or not finite; check the "
                "teacher, or type --config.matching.standardise=none"
            )
        found = {_MEAN: mean}
        if spread.ndim == mean.ndim:
            found[_SCALE] = np.maximum(variances, _SMALLEST_SHARE * level) ** -0.5
        else:
            # Principal components in rows of a Hadamard matrix have each the same share of all.
            _, components = np.linalg.eigh(spread)
            turn = hadamard(mean.shape[-1]).T / mean.shape[-1] ** 0.5
            found[_ROTATION] = components @ turn / np.sqrt(level)[..., None]
        return {name: np.asarray(value, np.float32) for name, value in found.items()}


def _square(mean: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The squares of a mean's dimensions, or products of all of them, as `like` has them."""
    if like.ndim == mean.ndim:
        return mean**2
    return mean[..., :, None] * mean[..., None, :]
