"""Training on labels: the task of the pre-training pipeline."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from distill.errors import check_choices
from distill.losses import sigmoid_cross_entropy, softmax_cross_entropy
from distill.mixing import mix_labels, mixup
from distill.nn import Params, VisionNetwork


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassificationConfig:
    """The loss of "Scaling Vision Transformers" (arXiv 2106.04560), optionally with mixup.

    Raises:
      ValueError: for a negative mixup parameter.
    """

    kind: Literal["sigmoid", "softmax"] = "sigmoid"
    mixup: float = 0.0
    """Both parameters of mixup's Beta distribution; 0 does not mix."""

    def __post_init__(self):
        check_choices(self)
        if self.mixup < 0:
            raise ValueError(f"mixup must not be negative, not {self.mixup}")


@dataclasses.dataclass(frozen=True)
class Classification:
    """Cross-entropy against labels."""

    needs_labels: ClassVar[bool] = True
    training_only: ClassVar[tuple[str, ...]] = ()
    mean_over_examples: ClassVar[bool] = True

    network: VisionNetwork
    config: ClassificationConfig

    def prepare(self, frozen: None, batch: dict[str, jax.Array], key: jax.Array):
        """Model inputs [B, height, width, C] and label distributions [B, C]."""
        del frozen
        mixed = mixup(key, batch["image"], self.config.mixup)
        classes = self.network.config.num_classes
        return self.network.prepare(mixed.images), mix_labels(
            batch["label"], mixed.weights, classes
        )

    def loss(self, params: Params, prepared):
        """Mean cross-entropy and training accuracy."""
        images, targets = prepared
        logits = self.network.apply(params, images).logits
        per_example = CROSS_ENTROPIES[self.config.kind](logits, targets)
        accuracy = jnp.mean(jnp.argmax(logits, -1) == jnp.argmax(targets, -1))
        return jnp.mean(per_example), {"accuracy": accuracy}


CROSS_ENTROPIES = {"sigmoid": sigmoid_cross_entropy, "softmax": softmax_cross_entropy}
