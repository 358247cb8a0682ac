"""Position embeddings on another grid, as PyTorch's `interpolate(mode="bicubic")` computes them."""

from collections.abc import Callable

import numpy as np


def bicubic(table: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """[rows, columns, D] on another grid: cubic convolution with a = −0.75 and repeated edges.

    What `transformers` does for all families but DINOv2 with registers.
    """
    return _separable(table, grid, _weights)


def antialiased_bicubic(table: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """[rows, columns, D] on another grid: cubic convolution with a = −0.5, cut off at the edges.

    Where the grid shrinks, the kernel is as much wider.
    """
    return _separable(table, grid, _antialiased_weights)


def _separable(
    table: np.ndarray, grid: tuple[int, int], weights: Callable[[int, int], np.ndarray]
) -> np.ndarray:
    rows, columns = (weights(size, to) for size, to in zip(table.shape[:2], grid, strict=True))
    return np.einsum("ir,jc,rcd->ijd", rows, columns, table.astype(np.float64), optimize=True)


def _weights(size: int, to: int) -> np.ndarray:
    """[to, size]: the weights of `size` samples in each of `to`."""
    centre = (np.arange(to) + 0.5) * size / to - 0.5
    first = np.floor(centre).astype(int)
    weights = np.zeros((to, size))
    for offset in (-1, 0, 1, 2):
        index = np.clip(first + offset, 0, size - 1)
        distance = np.abs(centre - first - offset)
        np.add.at(weights, (np.arange(to), index), _cubic(distance, a=-0.75))
    return weights


def _antialiased_weights(size: int, to: int) -> np.ndarray:
    """[to, size], likewise."""
    centre = (np.arange(to)[:, None] + 0.5) * size / to - 0.5
    weights = _cubic(np.abs(np.arange(size) - centre) / max(1.0, size / to), a=-0.5)
    return weights / weights.sum(axis=1, keepdims=True)


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
