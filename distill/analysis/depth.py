"""How far predicted depths are from measured ones.

The figures of Eigen et al. (arXiv 1406.2283) and those that later work adds: each over an image's
pixels first, then the mean over images, as DINOv3 and AdaBins report them. Over the pixels of all
images at once they are others.
"""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from distill.analysis.resizing import check_size, pixels
from distill.errors import RunFailed, UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crop:
    """The part of images of one size that is compared."""

    size: tuple[int, int]
    """Height and width of the images, in pixels."""
    rows: slice
    columns: slice


EIGEN = Crop(size=(480, 640), rows=slice(45, 471), columns=slice(41, 601))
"""The part of NYU Depth v2's images that has depths, by Eigen et al."""

NYU = 1e-3, 10.0
"""Depths that are compared on NYU Depth v2, in metres, without these two."""

FIGURES = (
    "abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog",
    "delta1", "delta2", "delta3", "delta@1.1",
)  # fmt: skip
"""Of an image; aligned to it before, each has `aligned/` in front."""


def depth_errors(
    prediction: np.ndarray,
    depth: np.ndarray,
    *,
    limits: tuple[float, float] = NYU,
    crop: Crop | None = None,
    source: str = "the depth",
) -> dict[str, float]:
    """The figures of an image, in float64, as predicted and aligned.

    Of predictions p, kept within the limits, and depths d: `abs_rel`, the mean of |d − p| / d;
    `sq_rel`, of (d − p)² / d; `rmse`; `rmse_log`, of natural logarithms; `log10`, the mean
    |log₁₀ d − log₁₀ p|; `silog`, 100 times the standard deviation of log p − log d; `delta1`,
    `delta2`, `delta3` and `delta@1.1`, the share of pixels whose max(d / p, p / d) is less than
    1.25, 1.25², 1.25³ and 1.1. Of `aligned/…`, the prediction is first scaled and shifted so that
    the squared difference from the image's depths is least: for models whose depths are relative.

    Args:
      prediction: [height, width] of any float dtype, of the depth's size.
      depth: [height, width] of any float dtype, in the limits' unit; outside of them, NaN or
        infinite where it is not known.
      limits: lowest and highest, both positive; only depths between them count.
      crop: outside of it no depth counts.
      source: the depth's file, for messages.

    Returns:
      `FIGURES`, then those of the aligned prediction; all NaN if no depth counts.

    Raises:
      UserError: if the two differ in size, or the depth from the crop's images.
      RunFailed: if a prediction that counts is not finite.
    """
    p, d = _compared(prediction, depth, limits, crop, source)
    figures = _figures(np.clip(p, *limits), d)
    aligned = _figures(np.clip(_aligned(p, d), *limits), d)
    return figures | {f"aligned/{name}": value for name, value in aligned.items()}


def mean_errors(images: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each figure over the images that have it; without those that none has.

    Args:
      images: what `depth_errors` returns of each.
    """
    images = list(images)
    table = {name: np.array([one[name] for one in images]) for name in (images or [{}])[0]}
    return {
        name: float(np.nanmean(column))
        for name, column in table.items()
        if not np.isnan(column).all()
    }


def patch_means(values: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """The mean of what is known of each patch.

    A pixel belongs to the patch that its centre lies in, so sides need not divide.

    Args:
      values: [height, width] of any float dtype, NaN where nothing is known.
      grid: patches in height and width, h and w.

    Returns:
      float32 [h, w]; NaN of a patch of which nothing is known.
    """
    known = ~np.isnan(values)
    row, column = (
        (2 * np.arange(side) + 1) * patches // (2 * side)
        for side, patches in zip(values.shape, grid, strict=True)
    )
    patch = (row[:, None] * grid[1] + column)[known]
    size = grid[0] * grid[1]
    totals = np.bincount(patch, values[known].astype(np.float64), size)
    counts = np.bincount(patch, minlength=size)
    means = np.divide(totals, counts, out=np.full(size, np.nan), where=counts > 0)
    return means.astype(np.float32).reshape(grid)


def _compared(
    prediction: np.ndarray,
    depth: np.ndarray,
    limits: tuple[float, float],
    crop: Crop | None,
    source: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and depths of the pixels that count, float64 [N]."""
    check_size(prediction, depth, source)
    low, high = limits
    # In float16 neither the limits nor logarithms are what they are.
    d = depth.astype(np.float64)
    valid = (d > low) & (d < high)
    if crop is not None:
        if depth.shape != crop.size:
            raise UserError(
                f"{source} is {pixels(depth.shape)}, but the crop is of images of "
                f"{pixels(crop.size)}; evaluate images of this size, or without a crop"
            )
        inside = np.zeros(crop.size, bool)
        inside[crop.rows, crop.columns] = True
        valid &= inside
    p = prediction[valid].astype(np.float64)
    if not np.isfinite(p).all():
        raise RunFailed(f"a prediction for {source} is not finite; check the model")
    return p, d[valid]


def _figures(p: np.ndarray, d: np.ndarray) -> dict[str, float]:
    if not d.size:
        return dict.fromkeys(FIGURES, np.nan)
    difference, log = p - d, np.log(p) - np.log(d)
    ratio = np.maximum(p / d, d / p)
    values = (
        np.mean(np.abs(difference) / d),
        np.mean(difference**2 / d),
        np.sqrt(np.mean(difference**2)),
        np.sqrt(np.mean(log**2)),
        np.mean(np.abs(log)) / np.log(10),
        100 * np.std(log),
        *(np.mean(ratio < bound) for bound in (1.25, 1.25**2, 1.25**3, 1.1)),
    )
    return dict(zip(FIGURES, map(float, values), strict=True))


def _aligned(p: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Scaled and shifted to the least squares; the mean depth where all predictions are equal."""
    if not d.size or p.min() == p.max():
        return np.full(p.shape, d.mean()) if d.size else p
    centred = p - p.mean()
    return centred * (centred @ d / (centred @ centred)) + d.mean()
