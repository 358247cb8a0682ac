"""Function matching: the student is trained to be its teachers' function on the same views."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from distill.errors import UserError
from distill.evaluation_view import EvaluationView
from distill.losses import (
    cosine_distance,
    euclidean_distance,
    kl_divergence,
    mean_squared_error,
    softmax_cross_entropy,
    squared_distance,
)
from distill.metrics.classification import agreement, label_metrics, top5_agreement
from distill.metrics.metric import Mean
from distill.metrics.similarity import LinearCKA
from distill.mixing import Mixed, mix, mix_labels
from distill.nn import Network, Params, ViTOutput
from distill.nn.embeddings import resample_tokens
from distill.tasks.matching.config import FEATURES, MatchingConfig
from distill.tasks.matching.projections import with_projections
from distill.tasks.matching.targets import Answers, decode

_TERMS = {
    "logits_l2": squared_distance,
    "logits_euclidean": euclidean_distance,
    "embedding_cosine": cosine_distance,
    "embedding_mse": mean_squared_error,
    "tokens_cosine": cosine_distance,
    "tokens_mse": mean_squared_error,
}


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A network to learn from, and how much it counts among several."""

    network: Network
    weight: float = 1.0
    class_names: tuple[str, ...] = ()
    """In the order of its logits; empty where nothing says them."""
    order: tuple[int, ...] | None = None
    """Which of its logits are the student's classes, in the student's order; None where all are, in
    theirs; empty where it has other classes, which are not compared."""
    view: EvaluationView = EvaluationView()
    """What of an image it is to be shown."""

    @property
    def classes(self) -> int:
        """How many of its logits can be compared with a student's."""
        return self.network.config.num_classes if self.order is None else len(self.order)

    def logits(self, output: ViTOutput) -> jax.Array:
        """Of the student's classes, in the student's order, [B, classes]."""
        return output.logits if self.order is None else output.logits[:, np.array(self.order)]


class Prepared(NamedTuple):
    """What a student's loss is computed from; no gradient flows through any of it."""

    images: jax.Array
    """Mixed views, [B, height, width, C] float32 in [0, 255]."""
    labels: jax.Array
    """[B], of the images that partners are mixed into."""
    labelled_share: jax.Array
    """[B], the share of the batch's images that have a label; the same for each, so that it can be
    cut into microbatches."""
    targets: jax.Array | None
    """Mixed labels, [B, classes]; None if the loss does not look at them."""
    weights: jax.Array
    """[B], the share of each image itself in its mixture."""
    teachers: Answers
    """What teachers make of the view."""


@dataclasses.dataclass(frozen=True)
class FunctionMatching:
    """Matches a student's outputs to its teachers', on one view that is mixed once for all.

    Teachers run in `prepare`, outside the gradient; unless the loss has the term `labels`, labels
    reach only the logs. `prepare` does not depend on the student, so that several students share
    it.
    """

    student: Network
    teachers: Mapping[str, Teacher]
    config: MatchingConfig
    labelled: bool = True
    """Whether the images have labels, to log an accuracy."""
    stored: str | None = None
    """What the names of stored answers begin with in a batch; None asks the teachers."""

    @property
    def needs_labels(self) -> bool:
        """Whether the loss compares with labels."""
        return bool(self.config.losses.labels)

    def prepare(
        self, frozen: Mapping[str, Params], batch: dict[str, jax.Array], key: jax.Array
    ) -> Prepared:
        """Mixes the batch and asks the teachers, whose parameters are `frozen`, by name."""
        config, classes = self.config, self.student.config.num_classes
        # What comes after a barrier compiles to the same whatever is before it, and the other way
        # round: whoever else is taught, and whether the answers are given now or were stored.
        mixed = jax.lax.optimization_barrier(mix_views(config, key, batch["image"]))
        if self.stored is None:
            view = mixed.images if config.teacher_view == "same" else batch["teacher_image"]
            answers = self._ask(frozen, view)
        else:
            prefix = len(self.stored)
            stored = {k[prefix:]: v for k, v in batch.items() if k.startswith(self.stored)}
            answers = decode(stored, classes)
        targets = None
        if config.losses.labels:
            if "classes" in batch:
                raise UserError(
                    "config.matching.losses.labels compares with one class for each image, but "
                    "images of this data have several each; type --config.matching.losses.labels=0"
                )
            targets = mix_labels(batch["label"], mixed.weights, classes)
        labelled_share = jnp.mean(batch["label"] >= 0)
        prepared = Prepared(
            images=mixed.images,
            labels=batch["label"],
            labelled_share=jnp.broadcast_to(labelled_share, batch["label"].shape),
            targets=targets,
            weights=mixed.weights,
            teachers=answers,
        )
        return jax.lax.optimization_barrier(prepared)

    def loss(self, params: Params, prepared: Prepared) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The weighted sum of the terms; agreement with the teachers on the mixed views.

        The accuracy is over images with a label, and not a number where a batch has none.
        """
        output = self.student.apply(params, self.student.prepare(prepared.images))
        weights = self.config.losses.terms
        terms = {name: self._term(name, params, output, prepared) for name in weights}
        if self.config.losses.labels:
            weights = weights | {"labels": self.config.losses.labels}
            terms["labels"] = jnp.mean(softmax_cross_entropy(output.logits, prepared.targets))
        loss = sum(weights[name] * term for name, term in terms.items())
        metrics = terms if len(terms) > 1 else {}
        if "logits" in prepared.teachers:
            teacher = combine(prepared.teachers["logits"], self.teachers)
            metrics = metrics | {"agreement": jnp.mean(agreement(output.logits, teacher))}
        if self.labelled and self.student.config.num_classes:
            correct = jnp.argmax(output.logits, -1) == prepared.labels
            metrics = metrics | {"accuracy": jnp.mean(correct) / prepared.labelled_share[0]}
        return loss, metrics

    def _ask(self, frozen: Mapping[str, Params], view: jax.Array) -> Answers:
        outputs = {
            name: teacher.network.apply(frozen[name], teacher.network.prepare(view))
            for name, teacher in self.teachers.items()
        }
        features = dict.fromkeys(self.config.losses.features)
        if comparable(self.student, self.teachers):
            features |= {"logits": None}
        found = {
            feature: {name: self._feature(feature, name, out) for name, out in outputs.items()}
            for feature in features
        }
        if self.config.several_teachers == "average" and "logits" in found:
            average = combine(found["logits"], self.teachers, self.config.temperature)
            found["logits"] = {"average": average}
        return found

    def _feature(self, feature: str, teacher: str, output: ViTOutput) -> jax.Array:
        if feature == "logits":
            return self.teachers[teacher].logits(output)
        return getattr(output, feature)

    def _term(self, name: str, params: Params, output: ViTOutput, prepared: Prepared) -> jax.Array:
        """One term, averaged over the batch and summed over the teachers."""
        feature = FEATURES[name]
        averaged = feature == "logits" and self.config.several_teachers == "average"
        total = 0.0
        for teacher, target in prepared.teachers[feature].items():
            if feature == "logits":
                ours = output.logits
            else:
                ours = self.student.project(params, output, feature, teacher)
            if feature == "tokens":
                grid = self.teachers[teacher].network.config.grid
                target = resample_tokens(target, grid, self.student.config.grid)
            weight = 1.0 if averaged else self.teachers[teacher].weight
            total += weight * jnp.mean(self._distance(name)(target.astype(jnp.float32), ours))
        return total

    def _distance(self, name: str):
        if name == "kl":
            return lambda teacher, student: kl_divergence(teacher, student, self.config.temperature)
        return _TERMS[name]


def combine(
    logits: Mapping[str, jax.Array], teachers: Mapping[str, Teacher], temperature: float = 1.0
) -> jax.Array:
    """Logits, [B, C], of the average of several teachers' probabilities at a temperature.

    Args:
      logits: of each teacher; a single entry is returned as it is.
      teachers: their weights.
      temperature: T of softmax(z/T), whose weighted mean is softmax(result/T).
    """
    if len(logits) == 1:
        return next(iter(logits.values()))
    weights = jnp.array([teachers[name].weight for name in logits], jnp.float32)
    stacked = jax.nn.log_softmax(jnp.stack(list(logits.values())) / temperature)
    shares = jnp.log(weights / jnp.sum(weights))[:, None, None]
    return temperature * jax.nn.logsumexp(stacked + shares, axis=0)


def projected(student: Network, teachers: Mapping[str, Teacher], config: MatchingConfig) -> Network:
    """The student with the projections that the terms of its loss compare by."""
    features = tuple(feature for feature in config.losses.features if feature != "logits")
    widths = {name: teacher.network.config.width for name, teacher in teachers.items()}
    return with_projections(student, features, widths)


def comparable(student: Network, teachers: Mapping[str, Teacher]) -> bool:
    """Whether student and teachers have as many classes, and so logits to compare."""
    classes = {teacher.classes for teacher in teachers.values()}
    return bool(classes) and classes == {student.config.num_classes} - {0}


def distillation_metrics(
    student: Network,
    teachers: Mapping[str, Teacher],
    *,
    mixed: MatchingConfig | None = None,
    labelled: bool = True,
    among: Sequence[int] | None = None,
):
    """Metrics of the student, and of the student against its teachers.

    Args:
      student: what is evaluated.
      teachers: whose parameters the metrics get as `frozen`, by name.
      mixed: how images are mixed before they are shown, always by the same draw; None shows them
        as they are.
      labelled: whether the images have labels.
      among: the classes that compete where labels are compared with; None is all. Students and
        teachers are compared over all.
    """

    def per_example(params: Params, frozen: Any, batch: dict[str, jax.Array]):
        images, where = batch["image"], batch["mask"]
        if mixed is not None:
            images = mix_views(mixed, jax.random.key(0), images).images
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
            metric = "cka" if len(theirs) == 1 else f"cka_{name}"
            metrics[metric] = LinearCKA.of(ours.embedding, output.embedding, where)
        return metrics

    return per_example


def mix_views(config: MatchingConfig, key: jax.Array, images: jax.Array) -> Mixed:
    """Mixes a batch of views, [B, height, width, C], as a run with this config does."""
    return mix(
        key, images, mixup=config.mixup, cutmix=config.cutmix, per_example=config.per_example
    )
