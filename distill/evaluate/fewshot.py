"""Few-shot linear evaluation: ridge regression on the features of a few images per class.

What "Scaling Vision Transformers" (arXiv 2106.04560) reports as few-shot transfer, in the form of
its reference implementation.
"""

from collections.abc import Sequence

import numpy as np

from distill.analysis.linear import LinearClassifier, Standardisation, check_finite
from distill.errors import UserError

# The constant feature that carries the bias. A ridge penalty on its weight is one of l2/100² on
# the bias, next to none.
BIAS_FEATURE = 100.0


def drawing_orders(labels: np.ndarray, classes: int, seed: int) -> list[np.ndarray]:
    """The order in which each class's images are drawn: permutations of indices into `labels`.

    Fewer shots are the first of more shots. Images without a label, −1, are in none.
    """
    rng = np.random.default_rng(seed)
    by_class = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[by_class], np.arange(classes + 1))
    return [rng.permutation(by_class[starts[c] : starts[c + 1]]) for c in range(classes)]


def draw_shots(
    orders: Sequence[np.ndarray],
    shots: int,
    class_names: Sequence[str],
    readable: np.ndarray | None = None,
) -> np.ndarray:
    """Indices of the first `shots` images of each class, [C · shots].

    Args:
      orders: of `drawing_orders`.
      shots: images per class.
      class_names: for the error.
      readable: bool, whether the image at each index can be decoded; the next of its class stands
        in for one that cannot. None if all can.

    Raises:
      UserError: if a class has fewer images.
    """
    drawn = []
    for order, name in zip(orders, class_names, strict=True):
        usable = order if readable is None else order[readable[order]]
        if len(usable) < shots:
            raise UserError(
                f"few-shot evaluation asks for {shots} images of every class, but {name!r} has "
                f"{len(usable)}; ask for fewer shots or leave the class out"
            )
        drawn.append(usable[:shots])
    return np.concatenate(drawn)


def fit_ridge(
    features: np.ndarray, labels: np.ndarray, classes: int, l2: float
) -> LinearClassifier:
    """The linear map W that minimises ‖X·W − Y‖² + l2·‖W‖², in float64.

    X is the features whitened by their own mean and standard deviation (+ 1e-5), with a constant
    feature of 100 appended; Y is 1 for the label's class and −1 for all others.

    Args:
      features: [N, D], of the shots.
      labels: int [N].
      classes: C.
      l2: penalty on every weight, the constant feature's among them.

    Raises:
      RunFailed: if a feature is not finite.
    """
    check_finite(features)
    whitening = Standardisation.of(features)
    x = np.pad(whitening(features), ((0, 0), (0, 1)), constant_values=BIAS_FEATURE)
    y = 2.0 * np.eye(classes)[labels] - 1.0
    weights = _solve(x, y, l2)
    return LinearClassifier(whitening, weights[:-1], BIAS_FEATURE * weights[-1])


def _solve(x: np.ndarray, y: np.ndarray, l2: float) -> np.ndarray:
    """(XᵀX + l2·I)⁻¹·XᵀY = Xᵀ·(XXᵀ + l2·I)⁻¹·Y, by the smaller of the two systems."""
    # Most runs evaluate without it, and it takes half a second to import.
    from scipy import linalg

    count, width = x.shape
    if count >= width:
        return linalg.solve(x.T @ x + l2 * np.eye(width), x.T @ y, assume_a="pos")
    return x.T @ linalg.solve(x @ x.T + l2 * np.eye(count), y, assume_a="pos")
