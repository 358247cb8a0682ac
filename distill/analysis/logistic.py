"""Which class each patch shows, by multinomial logistic regression on frozen tokens.

Slower than `distill.analysis.dense_probe`, since each step looks at all tokens again; what it
minimises is what a trained linear head minimises.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from distill.analysis.linear import LinearClassifier, Standardisation, row_blocks
from distill.errors import UserError

Parts = Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]]
"""Goes through tokens [n, D] and their shares of classes [n, C], part by part, at each call the
same; patches whose shares are NaN do not count."""

PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""Strongest first: each fit starts where the one before ended."""

_ITERATIONS, _TOLERANCE = 200, 1e-5


@dataclasses.dataclass(frozen=True)
class LogisticProbe:
    """A fitted probe, and how its penalty was found."""

    classifier: LinearClassifier
    """Its scores are logits."""
    l2: float
    cross_entropies: dict[float, float]
    """Of each penalty, on what was held out."""


def fit_logistic_probe(
    training: Parts,
    held_out: Parts,
    standardisation: Standardisation,
    classes: int,
    penalties: Sequence[float] = PENALTIES,
) -> LogisticProbe:
    """Fits to all tokens with the penalty whose fit to some has the least cross-entropy on others.

    Args:
      training: what candidates are fitted to.
      held_out: of other images.
      standardisation: of tokens, such as that of all moments in `distill.analysis.dense_probe`.
      classes: C.
      penalties: candidates, each positive, strongest first.

    Raises:
      UserError: if either is of no patch with a label.
    """
    width = len(standardisation.mean)
    candidate = LinearClassifier(standardisation, np.zeros((width, classes)), np.zeros(classes))
    candidates, cross_entropies = {}, {}
    for l2 in penalties:
        candidate = fit_logistic(training, candidate, l2)
        candidates[l2], cross_entropies[l2] = candidate, cross_entropy(candidate, held_out)
    l2 = min(penalties, key=cross_entropies.__getitem__)

    def every() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        yield from training()
        yield from held_out()

    return LogisticProbe(fit_logistic(every, candidates[l2], l2), l2, cross_entropies)


def fit_logistic(parts: Parts, start: LinearClassifier, l2: float) -> LinearClassifier:
    """Minimises mean cross-entropy + l2/2·‖kernel‖² over kernel and bias, by L-BFGS.

    Logits are computed in float32, a block of tokens at a time; sums are float64.

    Args:
      parts: what it is fitted to.
      start: where to begin, and how tokens are standardised.
      l2: positive.

    Raises:
      UserError: if no patch has a label.
    """
    # It takes half a second to import, and most evaluations do without.
    from scipy import optimize

    width = len(start.kernel)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        params = flat.reshape(width + 1, -1)
        kernel, bias = params[:-1], params[-1]
        loss, slope, count = 0.0, np.zeros_like(params), 0
        for x, logits, shares in _blocks(parts, start.standardisation, kernel, bias):
            log = _log_softmax(logits)
            loss -= np.sum(shares * log, dtype=np.float64)
            difference = np.exp(log) - shares
            slope[:-1] += x.T @ difference
            slope[-1] += difference.sum(axis=0, dtype=np.float64)
            count += len(x)
        _check(count)
        slope /= count
        slope[:-1] += l2 * kernel
        return loss / count + l2 / 2 * float(np.sum(kernel**2)), slope.reshape(-1)

    found = optimize.minimize(
        objective,
        np.concatenate([start.kernel, start.bias[None]]).reshape(-1),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _ITERATIONS, "gtol": _TOLERANCE, "ftol": 1e-9},
    )
    params = found.x.reshape(width + 1, -1)
    return dataclasses.replace(start, kernel=params[:-1], bias=params[-1])


def cross_entropy(classifier: LinearClassifier, parts: Parts) -> float:
    """Of softmax of the scores with the shares, in nats, the mean over patches with a label.

    Raises:
      UserError: if there are none.
    """
    loss, count = 0.0, 0
    for x, logits, shares in _blocks(
        parts, classifier.standardisation, classifier.kernel, classifier.bias
    ):
        loss -= np.sum(shares * _log_softmax(logits), dtype=np.float64)
        count += len(x)
    _check(count)
    return float(loss / count)


def _blocks(
    parts: Parts, standardisation: Standardisation, kernel: np.ndarray, bias: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Standardised tokens [n, D], logits [n, C] and shares [n, C], float32."""
    mean, std, kernel, bias = (
        part.astype(np.float32)
        for part in (standardisation.mean, standardisation.std, kernel, bias)
    )
    for tokens, shares in parts():
        for rows in row_blocks(len(tokens)):
            known = ~np.isnan(shares[rows]).any(axis=1)
            x = tokens[rows][known].astype(np.float32)
            x -= mean
            x /= std
            yield x, x @ kernel + bias, shares[rows][known].astype(np.float32)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def _check(count: int) -> None:
    if not count:
        raise UserError("there is no patch with a label; expected images with labelled pixels")
