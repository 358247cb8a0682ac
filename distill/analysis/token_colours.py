"""What tokens hold, as colours: the directions in which they vary most, alike for several models.

Colours of two models can be compared only if they stand for the same. Those of the first model are
its first three principal components; of another model, what a linear map of its own components says
of these.
"""

from typing import NamedTuple

import numpy as np

from distill.analysis.linear import check_finite
from distill.analysis.resizing import resize_bilinear

COMPONENTS = 16
"""Of each model's tokens, that are kept."""


class Basis(NamedTuple):
    """The directions in which tokens vary most."""

    mean: np.ndarray
    """[D] float64."""
    directions: np.ndarray
    """[D, K] float64, of length 1; of the largest variance first."""

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        """Maps tokens [..., D] to components [..., K]."""
        return (tokens - self.mean) @ self.directions


def principal_components(tokens: np.ndarray, components: int = COMPONENTS) -> Basis:
    """Principal component analysis of tokens about their mean.

    Args:
      tokens: [N, D] of any float dtype.
      components: K; fewer where tokens have fewer dimensions. Each direction's largest entry is
        positive.

    Raises:
      RunFailed: if a token is not finite.
    """
    check_finite(tokens, "token")
    x = tokens.astype(np.float64)
    mean = x.mean(axis=0)
    x -= mean
    _, vectors = np.linalg.eigh(x.T @ x)
    directions = vectors[:, ::-1][:, :components]
    largest = np.abs(directions).argmax(axis=0)
    signs = np.where(directions[largest, np.arange(directions.shape[1])] < 0, -1.0, 1.0)
    return Basis(mean, directions * signs)


def colours(components: list[np.ndarray]) -> list[np.ndarray]:
    """The first three components of images as red, green and blue.

    Each is scaled to variance 1 over all images and squashed, as in DINOv3's notebook.

    Args:
      components: of each image [rows, columns, K ≥ 1].

    Returns:
      float64 [rows, columns, 3] in [0, 1]; components that there are not are grey.
    """
    flat = _flat(components)[:, :3]
    mean, std = flat.mean(axis=0), flat.std(axis=0)
    found = []
    for one in components:
        whitened = (one[..., :3] - mean) / np.where(std > 0, std, 1)
        coloured = np.full((*one.shape[:2], 3), 0.5)
        coloured[..., : whitened.shape[-1]] = 1 / (1 + np.exp(-2 * whitened))
        found.append(coloured)
    return found


def carried(
    first: list[np.ndarray], other: list[np.ndarray]
) -> tuple[list[np.ndarray], float | None]:
    """What another model's components say of the first one's three, by least squares.

    Args:
      first: of each image, components [rows, columns, K] of the first model.
      other: of the same images, [r, c, K'] of another one; grids may differ.

    Returns:
      Of each image [r, c, 3], and the share of the first's variance that is told, R² of all three
      together; None where it has none, or there are too few patches to tell.
    """
    wanted = [
        resize_bilinear(one[..., :3], two.shape[:2]) for one, two in zip(first, other, strict=True)
    ]
    x, y = _flat(other), _flat(wanted)
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    weights, *_ = np.linalg.lstsq(x, y, rcond=None)
    told = x @ weights
    spread = np.sum((y - y.mean(axis=0)) ** 2)
    # A map that has hardly more patches than numbers of its own tells them all.
    enough = spread > 0 and len(x) >= 4 * x.shape[1]
    share = float(1 - np.sum((y - told) ** 2) / spread) if enough else None
    maps = [one.astype(np.float64) @ weights[:-1] + weights[-1] for one in other]
    return maps, share


def _flat(maps: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([one.reshape(-1, one.shape[-1]) for one in maps]).astype(np.float64)
