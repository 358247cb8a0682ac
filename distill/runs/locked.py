"""Evaluations of a pair whose image tower stays as it is and is no part of what is trained."""

from typing import Any

from distill.nn import Params
from distill.train.loop import Evaluate


class WithTower:
    """An evaluation of a whole pair, given what is trained of it and, frozen, its image tower.

    Args:
      evaluation: of the pair.
      left_out: parameters of the tower that a pair has not, such as a classifier.
    """

    def __init__(self, evaluation: Evaluate, left_out: tuple[str, ...]):
        self._evaluation, self._left_out = evaluation, left_out

    @property
    def missing(self) -> frozenset[str]:
        """Metrics of which the last call could say nothing."""
        return self._evaluation.missing

    def metrics(self, params: Params, frozen: Any) -> frozenset[str] | None:
        """The names of what may be found; None where nothing says them."""
        return self._evaluation.metrics(self._pair(params, frozen), None)

    def __call__(self, params: Params, frozen: Any) -> dict[str, float]:
        """The pair's metrics.

        Args:
          params: of the pair but its image tower.
          frozen: of the image tower.
        """
        return self._evaluation(self._pair(params, frozen), None)

    def _pair(self, params: Params, frozen: Any) -> Params:
        image = {name: value for name, value in frozen.items() if name not in self._left_out}
        return {"image": image, **params}
