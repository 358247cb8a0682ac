"""How well the objects of a video are found, as DAVIS measures it.

Region similarity J and contour accuracy F (Perazzi et al., CVPR 2016) of each object and frame;
the first frame, whose mask is given, does not count.
"""

import math
from typing import NamedTuple

import numpy as np

from distill.analysis.propagation import objects_of
from distill.analysis.resizing import check_size

TOLERANCE = 0.008
"""Of F, how far contours may be from each other, as a share of the image's diagonal."""


class ObjectScores(NamedTuple):
    """Of a video with K objects and T frames."""

    objects: list[int]
    """Their numbers in the masks."""
    j: np.ndarray
    """Of each object and frame after the first, float64 [K, T − 1]."""
    f: np.ndarray
    """Likewise."""


def object_scores(
    predictions: np.ndarray, masks: np.ndarray, *, ignore: int = 255, source: str = "the masks"
) -> ObjectScores:
    """Compares a video's predicted masks with its own.

    Args:
      predictions: int [T − 1, height, width], of the frames after the first.
      masks: int [T, height, width]; the objects are those of the first.
      ignore: what masks hold where they say nothing; nothing is compared there.
      source: the masks' file, for messages.

    Raises:
      UserError: if the first mask has no object, or sizes differ.
    """
    objects = objects_of(masks[0], ignore)
    scores = np.empty((2, len(objects), len(predictions)))
    for frame, (prediction, mask) in enumerate(zip(predictions, masks[1:], strict=True)):
        check_size(prediction, mask, source)
        known = mask != ignore
        for place, number in enumerate(objects):
            found, there = known & (prediction == number), mask == number
            scores[:, place, frame] = jaccard(found, there), boundary_f(found, there)
    return ObjectScores(objects, *scores)


def mean_scores(videos: list[ObjectScores]) -> dict[str, float]:
    """`j`, `f` and their mean `j_and_f`: of each object over its frames, then over all objects.

    Nothing if there are no videos of at least two frames.
    """
    videos = [one for one in videos if one.j.size]
    if not videos:
        return {}
    j, f = (
        float(np.concatenate([frames.mean(axis=1) for frames in scores]).mean())
        for scores in ([one.j for one in videos], [one.f for one in videos])
    )
    return {"j": j, "f": f, "j_and_f": (j + f) / 2}


def jaccard(prediction: np.ndarray, mask: np.ndarray) -> float:
    """Intersection over union of bool [height, width]; 1 if both are empty."""
    union = np.count_nonzero(prediction | mask)
    return float(np.count_nonzero(prediction & mask) / union) if union else 1.0


def boundary_f(prediction: np.ndarray, mask: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """The F-measure of contours that may be off by a few pixels.

    Precision is the share of the prediction's contour that is close to the mask's, recall that of
    the mask's close to the prediction's: within a disc of `tolerance` times the diagonal, rounded
    up to pixels. 1 if neither has a contour, 0 if one has none.

    Args:
      prediction: bool [height, width].
      mask: likewise.
      tolerance: a share of the image's diagonal.
    """
    radius = math.ceil(tolerance * math.hypot(*mask.shape))
    found, there = _contour(prediction), _contour(mask)
    if not (found.any() and there.any()):
        return float(found.any() == there.any())
    precision = np.mean(_grown(there, radius)[found])
    recall = np.mean(_grown(found, radius)[there])
    total = precision + recall
    return float(2 * precision * recall / total) if total else 0.0


def _contour(region: np.ndarray) -> np.ndarray:
    """Pixels unlike the one to their right, below or both: the side that DAVIS takes."""
    padded = np.pad(region, ((0, 1), (0, 1)), mode="edge")
    right, below, both = padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    return (region != right) | (region != below) | (region != both)


def _grown(region: np.ndarray, radius: int) -> np.ndarray:
    """Pixels no further than `radius` from the region."""
    height, width = region.shape
    grown = np.zeros_like(region)
    sums = np.pad(np.cumsum(region, axis=1), ((0, 0), (1, 0)))
    columns = np.arange(width)
    for offset in range(-min(radius, height - 1), min(radius, height - 1) + 1):
        reach = math.isqrt(radius**2 - offset**2)
        low = np.maximum(columns - reach, 0)
        high = np.minimum(columns + reach + 1, width)
        near = sums[:, high] > sums[:, low]
        to = slice(max(offset, 0), height + min(offset, 0))
        of = slice(max(-offset, 0), height + min(-offset, 0))
        grown[to] |= near[of]
    return grown
