"""What is measured of a student: labels, and how far it is from its teachers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from distill.losses import kl_divergence
from distill.metrics.classification import agreement, label_metrics, top5_agreement
from distill.metrics.metric import Mean
from distill.metrics.similarity import LinearCKA
from distill.nn import PairNetwork, Params, VisionNetwork
from distill.subject import Teacher, combine, comparable


def distillation_metrics(
    student: VisionNetwork,
    teachers: Mapping[str, Teacher],
    *,
    mixed: Callable[[jax.Array], jax.Array] | None = None,
    labelled: bool = True,
    among: Sequence[int] | None = None,
):
    """Metrics of the student, and of the student against its teachers.

    Args:
      student: what is evaluated.
      teachers: whose parameters the metrics get as `frozen`, by name.
      mixed: mixes images before they are shown, always by the same draw; None shows them as they
        are.
      labelled: whether the images have labels.
      among: the classes that compete where labels are compared with; None is all. Students and
        teachers are compared over all.
    """

    def per_example(params: Params, frozen: Any, batch: dict[str, jax.Array]):
        images, where = batch["image"], batch["mask"]
        if mixed is not None:
            images = mixed(images)
        ours = student.apply(params, student.prepare(images))
        theirs = {
            name: teacher.network.apply(frozen[name], teacher.network.prepare(images))
            for name, teacher in teachers.items()
        }
        metrics = {}
        if labelled and student.config.num_classes:
            metrics = label_metrics(ours.logits, batch["label"], among, where=where)
        if comparable(student, teachers):
            logits = combine({k: teachers[k].logits(out) for k, out in theirs.items()}, teachers)
            values = {
                "agreement": agreement(ours.logits, logits),
                "top5_agreement": top5_agreement(ours.logits, logits),
                "kl": kl_divergence(logits, ours.logits),
            }
            metrics |= {name: Mean.of(value, where) for name, value in values.items()}
        for name, output in theirs.items():
            of = "" if len(theirs) == 1 else f"_{name}"
            metrics[f"cka{of}"] = LinearCKA.of(ours.embedding, output.embedding, where)
            if _in_one_space(student, teachers[name].network):
                cosine = jnp.sum(ours.embedding * output.embedding, axis=-1)
                metrics[f"cosine{of}"] = Mean.of(cosine, where)
        return metrics

    return per_example


def _in_one_space(student: VisionNetwork, teacher: VisionNetwork) -> bool:
    """Whether both have embeddings of one width and length 1, with which texts are compared."""
    pairs = isinstance(student, PairNetwork) and isinstance(teacher, PairNetwork)
    return pairs and student.config.embedding_width == teacher.config.embedding_width
