"""The evaluation of kind `corruptions`: accuracy on images made harder to recognise."""

import dataclasses
import time
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from distill.bounds import Between, Images, Seed, Side
from distill.data import Subset
from distill.data.corruptions import CORRUPTIONS, SEVERITIES, SIDE, Corruption
from distill.errors import check_each_once
from distill.evaluate.of_images import OfImagesConfig
from distill.evaluate.predicted import Predictor
from distill.nn import Params
from distill.parallel.printed import say
from distill.subject import Subject

# Seconds between lines that say how far it is.
_PATIENCE = 20.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorruptionsConfig(OfImagesConfig):
    """Accuracy on corrupted views of a split, by corruption and severity; see docs/evaluation.md.

    Raises:
      ValueError: for an unknown corruption or values out of bounds.
    """

    kind: Literal["corruptions"] = "corruptions"
    corruptions: tuple[str, ...] = ()
    """By name, such as `fog`; empty takes all of `distill/data/corruptions.py`."""
    severities: tuple[Annotated[int, Between(1, 5)], ...] = SEVERITIES
    """1, slight, to 5, heavy."""
    side: Side = SIDE
    """Of the images, in pixels, for which lengths such as a blur's radius are as they are defined;
    those of other images are scaled. Smaller blurs small images more."""
    seed: Seed = 0
    """Of what is random in them."""
    images: Images | None = None
    """How many, at equal distances in the split; None takes all."""

    needs_teachers: ClassVar[bool] = False

    def __post_init__(self):
        super().__post_init__()
        for name in ("corruptions", "severities"):
            check_each_once(name, getattr(self, name))
        if not self.severities:
            raise ValueError("severities are none; give some of 1 to 5")
        _ = self.all

    @property
    def all(self) -> tuple[Corruption, ...]:
        """Each corruption in each severity."""
        return tuple(
            Corruption(name, severity, self.seed, self.side)
            for name in self.corruptions or CORRUPTIONS
            for severity in self.severities
        )

    def build(self, name: str, subject: Subject) -> "CorruptedEvaluation | None":
        """Metrics such as `NAME/fog`, the mean over severities, and `NAME/relative_accuracy`.

        None of a run that holds no split out.
        """
        if (shown := self.shown(name, subject)) is None:
            return None
        predictor = Predictor(subject, shown, numbered=True)
        if self.images is not None and self.images < len(predictor.images):
            places = np.arange(self.images) * len(predictor.images) // self.images
            predictor.images = Subset(predictor.images, places)
        return CorruptedEvaluation(name, self, predictor)


class CorruptedEvaluation:
    """Accuracy on clean and on corrupted views.

    Args:
      name: prefix of the metrics.
      config: which corruptions.
      predictor: the model and the images.
    """

    def __init__(self, name: str, config: CorruptionsConfig, predictor: Predictor):
        self.missing: frozenset[str] = frozenset()
        """Nothing: images without a label are left out, and without any there is an error."""
        self.remarks = predictor.remarks
        self._name, self._config, self._predictor = name, config, predictor
        self._found: dict[str, Any] = {}
        self._counted = 0

    def __call__(self, params: Params, frozen: Any = None) -> dict[str, float]:
        """The accuracies; all processes must call it, and all get the same.

        Raises:
          RunFailed: if logits are not finite, or too many images are corrupt.
        """
        del frozen
        right, total = self._right(params, None)
        began = said = time.monotonic()
        accuracy, asked = {}, self._config.all
        for number, one in enumerate(asked, 1):
            correct, _ = self._right(params, one)
            accuracy.setdefault(one.name, {})[one.severity] = correct / total
            now = time.monotonic()
            if now - said > _PATIENCE and number < len(asked):
                left = (now - began) / number * (len(asked) - number)
                say(f"{self._name}: {number} of {len(asked)} passes  ETA {left:.0f}s")
                said = now
        clean = right / total
        self._counted = total
        means = {name: float(np.mean([*found.values()])) for name, found in accuracy.items()}
        mean = float(np.mean([*means.values()]))
        self._found = {
            "clean": clean,
            # Severities are of the same images, so what they have in common is as sure as one.
            "counts": {
                figure: [round(value * total), total]
                for figure, value in {
                    "clean_accuracy": clean,
                    "mean_accuracy": mean,
                    **means,
                }.items()
            },
            "accuracy": {
                name: {str(severity): value for severity, value in found.items()}
                for name, found in accuracy.items()
            },
        }
        relative = {"relative_accuracy": mean / clean} if clean else {}
        self.missing = frozenset() if clean else frozenset({f"{self._name}/relative_accuracy"})
        figures = {
            "clean_accuracy": clean,
            "mean_accuracy": mean,
            **relative,
            **means,
        }
        return {f"{self._name}/{figure}": value for figure, value in figures.items()}

    def metrics(self, params: Params, frozen: Any = None) -> frozenset[str]:
        """What a call may find."""
        del params, frozen
        of_all = ("clean_accuracy", "mean_accuracy", "relative_accuracy")
        names = (*of_all, *(one.name for one in self._config.all))
        return frozenset(f"{self._name}/{name}" for name in names)

    def _right(self, params: Params, corruption: Corruption | None) -> tuple[int, int]:
        """How many images are classified right, and how many have a label."""
        predictions = self._predictor.predictions(params, altered=corruption)
        labelled = predictions.labels >= 0
        right = predictions.scores.argmax(axis=1) == predictions.labels
        return int(right[labelled].sum()), int(labelled.sum())

    def seen(self) -> list[str]:
        """How many images and corruptions the last call has seen."""
        source = self._predictor.about()["data"][0]["source"]
        return [
            f"{self._counted:,} images of {source}, clean and in {len(self._config.all)} "
            "corruptions"
        ]

    def about(self) -> dict[str, Any]:
        """The images, how they are shown, and the last call's accuracies by severity."""
        return self._predictor.about() | {"details": self._found}
