"""Function matching: the student is trained to be the teacher's function on the same views."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from distill.evaluate.classification import agreement, label_metrics
from distill.matching.losses import kl_divergence
from distill.matching.mixup import mixup
from distill.nn import Network, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatchingConfig:
    """How the student is matched (arXiv 2106.05237, §3).

    Raises:
      ValueError: for a temperature that is not positive or a negative mixup parameter.
    """

    temperature: float = 1.0
    """T in T²·KL( softmax(z_t/T) ‖ softmax(z_s/T) )."""
    mixup: float = 1.0
    """Both parameters of mixup's Beta distribution; 0 does not mix."""
    per_example: bool = False
    """Draw mixup's coefficient for each image instead of once for the batch."""

    def __post_init__(self):
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, not {self.temperature}")
        if self.mixup < 0:
            raise ValueError(f"mixup must not be negative, not {self.mixup}")


@dataclasses.dataclass(frozen=True)
class FunctionMatching:
    """KL between teacher and student on one view, mixed once for both.

    The teacher runs in `prepare`, outside the gradient; labels reach only the logs.
    """

    student: Network
    teacher: Network
    config: MatchingConfig

    def prepare(self, frozen: Params, batch: dict[str, jax.Array], key: jax.Array) -> Any:
        """Student inputs, teacher logits [B, C] and labels [B]."""
        mixed = mixup(
            key, batch["image"], self.config.mixup, per_example=self.config.per_example
        ).images
        teacher_logits = self.teacher.apply(frozen, self.teacher.prepare(mixed)).logits
        return self.student.prepare(mixed), teacher_logits, batch["label"]

    def loss(self, params: Params, prepared: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Mean KL; agreement with the teacher on the mixed views, accuracy against the labels."""
        images, teacher_logits, labels = prepared
        logits = self.student.apply(params, images).logits
        kl = kl_divergence(teacher_logits, logits, self.config.temperature)
        return jnp.mean(kl), {
            "agreement": jnp.mean(agreement(logits, teacher_logits)),
            "accuracy": jnp.mean(jnp.argmax(logits, -1) == labels),
        }


def distillation_metrics(student: Network, teacher: Network):
    """Per-example metrics of the student, and of the student against the teacher."""

    def per_example(params, frozen, batch):
        logits = student.apply(params, student.prepare(batch["image"])).logits
        teacher_logits = teacher.apply(frozen, teacher.prepare(batch["image"])).logits
        return label_metrics(logits, batch["label"]) | {
            "agreement": agreement(logits, teacher_logits),
            "kl": kl_divergence(teacher_logits, logits),
        }

    return per_example
