"""The evaluation of kind `views`: a model's metrics on training images, seen as in training."""

import dataclasses
from typing import Literal

from distill.evaluate.evaluation import EvaluationConfig, ImagesEvaluation
from distill.evaluate.features import training_view_loader
from distill.evaluate.images import open_run
from distill.subject import Subject


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewsConfig(EvaluationConfig):
    """A sample of training views that no step trains on; a student's are mixed as in training.

    Mixtures are drawn batch by batch, so those of another batch size are others.
    """

    kind: Literal["views"] = "views"

    def build(self, name: str, subject: Subject) -> ImagesEvaluation | None:
        """Metrics named `NAME/kl`, as many images as there are to validate on.

        None where nothing is measured of views: without labels, of a student whose teachers are
        not there.
        """
        if subject.view_metrics is None:
            return None
        splits, data = open_run(subject), subject.data
        batches = training_view_loader(
            splits.train,
            data,
            subject.mesh,
            size=subject.view_size,
            batch_size=subject.batch_size,
            seed=subject.seed,
            limit=len(splits.validation or splits.train),
        )
        return ImagesEvaluation(
            name,
            batches,
            subject.view_metrics(splits.train),
            images=batches.source,
            source=data.training_source,
            split=data.train_split,
            view=dataclasses.asdict(data.view) | {"seed": subject.seed},
            class_map=data.class_map,
        )
