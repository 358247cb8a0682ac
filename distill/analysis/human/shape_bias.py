"""Whether answers follow an image's shape or its texture.

Geirhos et al., "ImageNet-trained CNNs are biased towards texture" (arXiv 1811.12231): images of
the set cue-conflict have the shape of one category and the texture of another.
"""

import dataclasses
from typing import Any

import numpy as np

from distill.analysis.human.consistency import Answers
from distill.analysis.human.datasets import CATEGORIES
from distill.errors import UserError

DATASET = "cue-conflict"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShapeBias:
    """How often shape and texture were named, where an image has one of each, not the same."""

    shape: np.ndarray
    """int64 [16], answers that named the shape, by the category of the shape."""
    texture: np.ndarray
    """int64 [16], answers that named the texture, by the category of the shape."""
    conflicts: int
    """Trials in which shape and texture differ."""
    trials: int
    """All trials; the toolbox's fractions are of these."""

    @property
    def value(self) -> float | None:
        """Share of the shape among answers that named either; None if none did."""
        return _share(int(self.shape.sum()), int(self.texture.sum()))

    @property
    def per_category(self) -> dict[str, float | None]:
        """The same for each category of the shape."""
        return {
            category: _share(int(shape), int(texture))
            for category, shape, texture in zip(CATEGORIES, self.shape, self.texture, strict=True)
        }

    @property
    def mean_over_categories(self) -> float | None:
        """Of those categories of which there is a value, each counting once."""
        known = [value for value in self.per_category.values() if value is not None]
        return float(np.mean(known)) if known else None

    def as_json(self) -> dict[str, Any]:
        """Values and the counts behind them."""
        shape, texture = int(self.shape.sum()), int(self.texture.sum())
        return {
            "shape_bias": self.value,
            "shape_bias_mean_over_categories": self.mean_over_categories,
            "shape_answers": shape,
            "texture_answers": texture,
            "other_answers": self.conflicts - shape - texture,
            "conflicts": self.conflicts,
            "trials": self.trials,
            "shape_share_of_trials": shape / self.trials,
            "texture_share_of_trials": texture / self.trials,
            "per_category": {
                category: {
                    "shape_bias": value,
                    "shape_answers": int(self.shape[code]),
                    "texture_answers": int(self.texture[code]),
                }
                for code, (category, value) in enumerate(self.per_category.items())
            },
        }


def _share(shape: int, texture: int) -> float | None:
    return shape / (shape + texture) if shape + texture else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cues:
    """What O observers followed in K trials with the set cue-conflict."""

    followed: np.ndarray
    """int8 [O, K], 1 shape, −1 texture, 0 neither, or both alike."""
    shapes: np.ndarray
    """int8 [K], places in `CATEGORIES`."""
    conflicts: int
    """Of the K trials, those in which shape and texture differ."""

    def bias(self, rows: np.ndarray) -> ShapeBias:
        """The shape bias of observers, their trials in one pool."""
        followed = self.followed[rows]

        def by_category(cue: int) -> np.ndarray:
            counts = (followed == cue).sum(axis=0)
            return np.bincount(self.shapes, counts, len(CATEGORIES)).astype(np.int64)

        return ShapeBias(
            shape=by_category(1),
            texture=by_category(-1),
            conflicts=self.conflicts * len(rows),
            trials=followed.size,
        )

    def resampled(self, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The shape bias of a pool, float32 [R]; NaN where it is undefined.

        Args:
          rows: the observers.
          weights: float32 [R, K], how often each trial counts.
        """
        shape, texture = (
            weights @ (self.followed[rows] == cue).sum(axis=0, dtype=np.float32) for cue in (1, -1)
        )
        either = shape + texture
        return np.divide(shape, either, out=np.full_like(shape, np.nan), where=either > 0)


def find_cues(answers: Answers) -> Cues:
    """Which answers followed the shape and which the texture.

    Args:
      answers: with the set cue-conflict, whose images' names end in the texture: bird3-clock2.png.

    Raises:
      UserError: if a name does not.
    """
    textures = np.array([_texture(answers, image) for image in answers.images], np.int8)
    followed = (answers.answers == answers.categories).astype(np.int8)
    followed -= answers.answers == textures
    return Cues(
        followed=followed,
        shapes=answers.categories,
        conflicts=int((textures != answers.categories).sum()),
    )


def _texture(answers: Answers, image: str) -> int:
    name = image.rpartition(".")[0].rpartition("-")[2].rstrip("0123456789")
    if name not in CATEGORIES:
        raise UserError(
            f"the image {image} of {answers.dataset} names no texture; expected a name such as "
            "bird3-clock2.png: shape, texture"
        )
    return CATEGORIES.index(name)
