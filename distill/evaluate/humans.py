"""The evaluation of kind `human_alignment`: a model's answers beside people's."""

import dataclasses
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from distill.analysis.human.alignment import AlignmentConfig, human_alignment
from distill.analysis.human.collection import collect
from distill.analysis.human.model_trials import model_trials
from distill.analysis.human.trials import write_trials
from distill.analysis.predictions import Predictions
from distill.bounds import Between, CropShare, Seed
from distill.evaluate.predicted import Measured, PredictionsConfig
from distill.evaluation_view import Resize
from distill.paths import LocalPath


@dataclasses.dataclass(frozen=True, kw_only=True)
class HumanAlignmentConfig(PredictionsConfig):
    """Accuracy out of distribution, error consistency with people, and shape bias.

    `source` is `images:PATH` of model-vs-human's folder `datasets`, or of some of its sets; images
    are shown whole, as they are stored. See docs/evaluation.md.

    Raises:
      ValueError: for values out of bounds.
    """

    kind: Literal["human_alignment"] = "human_alignment"
    name: str = "model"
    """What trials call the model."""
    dataset: str | None = None
    """The set of all images, if `source` is the folder of one."""
    trials: LocalPath | None = None
    """A directory to write the model's trials to, as model-vs-human has them."""
    resamples: Annotated[int, Between(0, 10**6)] = 1000
    """Of images, for intervals; 0 gives none."""
    seed: Seed = 0
    """Of resamples."""
    crop: CropShare | None = 1.0
    resize: Resize | None = "squash"

    by_the_models_classes: ClassVar[bool] = False

    @property
    def _alignment(self) -> AlignmentConfig:
        return AlignmentConfig(resamples=self.resamples, seed=self.seed)

    @property
    def writes(self) -> bool:
        """Whether the model's trials are asked for."""
        return self.trials is not None

    @property
    def figures(self) -> tuple[str, ...]:
        """What may be found; `*` is a set of images."""
        of_people = (f"humans/{name}" for name in _FIGURES)
        return (*_FIGURES, *of_people, *(f"*/{name}" for name in _FIGURES[:-1]))

    def measure(self, predictions: Predictions) -> Measured:
        """Figures such as `accuracy`, `error_consistency` and `shape_bias`, and those of people."""
        mine = model_trials(predictions, self.name, self.dataset)
        if self.trials is not None:
            write_trials(Path(self.trials), mine)
        found = collect(mine)
        alignment = human_alignment(found.trials, self._alignment)
        (model,) = [one for one in alignment.models if one.name == self.name]
        said, people = model.as_json(), alignment.humans.as_json()
        figures = {name: said[name] for name in _FIGURES}
        figures |= {f"humans/{name}": people[name] for name in _FIGURES}
        for dataset, values in said["by_dataset"].items():
            figures |= {f"{dataset}/{name}": values[name] for name in _FIGURES[:-1]}
        return Measured(figures, found.notes, alignment.as_json())


_FIGURES = (
    *("accuracy", "accuracy_difference", "observed_consistency", "error_consistency"),
    "shape_bias",
)
