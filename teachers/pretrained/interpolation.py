"""Position embeddings on another grid, as PyTorch computes them."""

import numpy as np


def bicubic(table: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """[rows, columns, D] on another grid: `interpolate(mode="bicubic", align_corners=False)`.

    Cubic convolution with a = −0.75 and repeated edges, not antialiased, which is what
    `transformers` does with a position embedding.
    """
    rows, columns = (_weights(size, to) for size, to in zip(table.shape[:2], grid, strict=True))
    return np.einsum("ir,jc,rcd->ijd", rows, columns, table.astype(np.float64))


def _weights(size: int, to: int) -> np.ndarray:
    """[to, size]: the weights of `size` samples in each of `to`."""
    centre = (np.arange(to) + 0.5) * size / to - 0.5
    first = np.floor(centre).astype(int)
    weights = np.zeros((to, size))
    for offset in (-1, 0, 1, 2):
        index = np.clip(first + offset, 0, size - 1)
        np.add.at(weights, (np.arange(to), index), _cubic(np.abs(centre - first - offset)))
    return weights


def _cubic(x: np.ndarray, a: float = -0.75) -> np.ndarray:
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
