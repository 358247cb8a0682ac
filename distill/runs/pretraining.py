"""What a config says of a pre-training run."""

import dataclasses

from distill.nn.family import ModelConfig
from distill.tasks.classification import ClassificationConfig
from distill.train.run import RunConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainConfig(RunConfig):
    """Everything a pre-training run depends on."""

    model: ModelConfig
    loss: ClassificationConfig = ClassificationConfig()
