"""A model's metrics with those of its teacher beside them, which is measured once."""

from typing import Any

from distill.evaluate.evaluation import Evaluation
from distill.nn import Params


class Beside:
    """An evaluation whose metrics are followed by the teacher's, as `NAME/teacher_METRIC`.

    Args:
      evaluation: of the model.
      teacher: the same of its teacher, under the same name.
      key: the teacher's among the frozen parameters.
    """

    def __init__(self, evaluation: Evaluation, teacher: Evaluation, key: str):
        self._evaluation, self._teacher, self._key = evaluation, teacher, key
        self._found: dict[str, float] | None = None

    @property
    def missing(self) -> frozenset[str]:
        """Metrics of which the last call could say nothing."""
        return self._evaluation.missing

    @property
    def remarks(self) -> tuple[str, ...]:
        """Those of the model's images."""
        return self._evaluation.remarks

    def __call__(self, params: Params, frozen: Any = None) -> dict[str, float]:
        """Both models' metrics; the teacher's are those of the first call."""
        if self._found is None:
            theirs = self._teacher(frozen[self._key])
            self._found = {_of_teacher(name): value for name, value in theirs.items()}
        return self._evaluation(params, frozen) | self._found

    def metrics(self, params: Params, frozen: Any = None) -> frozenset[str] | None:
        """What a call may find of both; None where one of them does not know."""
        ours = self._evaluation.metrics(params, frozen)
        theirs = self._teacher.metrics(frozen[self._key])
        return None if ours is None or theirs is None else ours | set(map(_of_teacher, theirs))

    def seen(self) -> list[str]:
        """What the last call was of."""
        return self._evaluation.seen()

    def about(self) -> dict[str, Any]:
        """On what the model was measured."""
        return self._evaluation.about()


def _of_teacher(name: str) -> str:
    head, _, metric = name.partition("/")
    return f"{head}/teacher_{metric}"
