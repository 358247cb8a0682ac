"""What a config says of storing teachers' outputs."""

import dataclasses
import math
from typing import Self

from distill.bounds import Images, SomeEpochs
from distill.errors import UserError
from distill.runs.distillation import DistillConfig
from distill.runs.pairs import EMBEDDINGS, tower_of
from distill.tasks.contrastive import ContrastiveConfig
from distill.tasks.matching.targets import TargetFormat
from distill.train.run import blame
from students.pair import PairModel


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoreConfig(TargetFormat):
    """What of the teachers' outputs to store, and for how long a run."""

    epochs: SomeEpochs | None = None
    """Of views; None stores the whole run's."""
    examples_per_file: Images = 65_536
    """Rounded down to whole batches, at least one; what an interruption can cost."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoreTargetsConfig(DistillConfig):
    """A distillation, or a pair's training on a locked image tower, and what to store of it."""

    store: StoreConfig = StoreConfig()
    loss: ContrastiveConfig | None = None
    """Of a config of pipelines/train_pair.py: its teacher's embeddings are stored."""

    def __post_init__(self):
        super().__post_init__()
        if self.targets is not None:
            raise ValueError("targets are stored in --workdir; leave config.targets out")

    def of_views(self) -> Self:
        """The config as a distillation; of a pair's training, one into its image tower.

        What teachers say is stored as they say it: a replay standardises it.

        Raises:
          UserError: if the image tower is trained, or cannot be read.
        """
        if self.loss is None:
            matching = dataclasses.replace(self.matching, standardise="none")
            return dataclasses.replace(self, matching=matching).with_text()
        if self.teacher is None or not isinstance(self.model, PairModel) or self.model.image:
            raise UserError(
                "embeddings are stored of an image tower that stays as it is: give config.teacher, "
                "and leave config.model.image out"
            )
        tower = tower_of(self.teacher)
        return dataclasses.replace(self, model=tower, loss=None, matching=EMBEDDINGS)

    def batches(self, images: int) -> int:
        """How many batches to store.

        Raises:
          ConfigError: if that is less than one.
        """
        if self.store.epochs is None:
            with blame("config.train"):
                return self.train.steps(images)
        batches = math.floor(self.store.epochs * images / self.train.batch_size)
        with blame("config.store.epochs"):
            if batches < 1:
                raise ValueError(
                    f"{self.store.epochs:g} of {images} images are less than one batch of "
                    f"{self.train.batch_size}"
                )
        return batches
