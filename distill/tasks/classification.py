"""Training on labels: the task of the pre-training pipeline."""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from distill.bounds import NotNegative, check_fields
from distill.errors import UserError
from distill.losses import sigmoid_cross_entropy, softmax_cross_entropy
from distill.mixing import mix_labels, mix_targets, mixup
from distill.nn import Params, VisionNetwork


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassificationConfig:
    """The loss of "Scaling Vision Transformers" (arXiv 2106.04560), optionally with mixup.

    Raises:
      ValueError: for a negative mixup parameter.
    """

    kind: Literal["sigmoid", "softmax"] = "sigmoid"
    mixup: NotNegative = 0.0
    """Both parameters of mixup's Beta distribution; 0 does not mix."""

    def __post_init__(self):
        check_fields(self)


class Prepared(NamedTuple):
    """What the loss is computed from; no gradient flows through any of it."""

    images: jax.Array
    """Model inputs, [B, height, width, C]."""
    targets: jax.Array
    """Mixed labels, [B, classes]."""


class PreparedSeveral(NamedTuple):
    """The same where images have several classes each."""

    images: jax.Array
    """Model inputs, [B, height, width, C]."""
    targets: jax.Array
    """Mixed classes, [B, classes] in [0, 1]."""


@dataclasses.dataclass(frozen=True)
class Classification:
    """Cross-entropy against labels, or against the `classes` of images that have several each."""

    needs_labels = True
    training_only = ()
    mean_over_examples = True

    network: VisionNetwork
    config: ClassificationConfig

    def prepare(
        self, frozen: None, batch: dict[str, jax.Array], key: jax.Array
    ) -> Prepared | PreparedSeveral:
        """Mixes the batch, and its labels or classes.

        Raises:
          UserError: if images have several classes each, and the loss is over one.
        """
        del frozen
        if "classes" in batch and self.config.kind == "softmax":
            raise UserError(
                "config.loss.kind is 'softmax', a loss over one class for each image, but images "
                "of this data have several each; type --config.loss.kind=sigmoid"
            )
        mixed = mixup(key, batch["image"], self.config.mixup)
        images = self.network.prepare(mixed.images)
        if "classes" in batch:
            return PreparedSeveral(images, mix_targets(batch["classes"], mixed.weights))
        classes = self.network.config.num_classes
        return Prepared(images, mix_labels(batch["label"], mixed.weights, classes))

    def loss(
        self, params: Params, prepared: Prepared | PreparedSeveral
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Mean cross-entropy, and the training accuracy where images have one label each."""
        targets = prepared.targets
        logits = self.network.apply(params, prepared.images).logits
        loss = jnp.mean(CROSS_ENTROPIES[self.config.kind](logits, targets))
        if isinstance(prepared, PreparedSeveral):
            return loss, {}
        return loss, {"accuracy": jnp.mean(jnp.argmax(logits, -1) == jnp.argmax(targets, -1))}


CROSS_ENTROPIES = {"sigmoid": sigmoid_cross_entropy, "softmax": softmax_cross_entropy}
