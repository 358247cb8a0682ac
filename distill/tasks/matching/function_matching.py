"""Function matching: the student is trained to be its teachers' function on the same views."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from distill.errors import UserError
from distill.losses import Similarities, found_in_batch, known_terms, number_texts
from distill.metrics.classification import agreement
from distill.mixing import Mixed, mix, mix_labels
from distill.nn import PairNetwork, Params, VisionNetwork, ViTOutput
from distill.nn.embeddings import resample_tokens
from distill.subject import Teacher, combine, comparable
from distill.tasks.matching.config import MatchingConfig
from distill.tasks.matching.projections import PROJECTIONS, project, with_projections
from distill.tasks.matching.targets import Answers, decode
from distill.tasks.pairs import captions_of, compared


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
    ids: jax.Array | None
    """Of the images' texts, [B, L]; None if the loss does not look at them."""
    same: jax.Array | None
    """[B], equal where texts are; None takes all for different."""
    teachers: Answers
    """What teachers make of the view."""


@dataclasses.dataclass(frozen=True)
class FunctionMatching:
    """Matches a student's outputs to its teachers', on one view that is mixed once for all.

    Teachers run in `prepare`, outside the gradient; unless the loss has the term `labels`, labels
    reach only the logs. `prepare` does not depend on the student, so that several students share
    it.
    """

    training_only = (PROJECTIONS,)

    student: VisionNetwork
    teachers: Mapping[str, Teacher]
    config: MatchingConfig
    labelled: bool = True
    """Whether the images have labels, to log an accuracy."""
    stored: str | None = None
    """What the names of stored answers begin with in a batch; None asks the teachers."""

    @property
    def needs_labels(self) -> bool:
        """Whether the loss compares with labels."""
        return self.config.losses.needs_labels

    @property
    def mean_over_examples(self) -> bool:
        """Whether no term compares the examples of a batch with each other."""
        return self.config.losses.mean_over_examples

    def prepare(
        self, frozen: Mapping[str, Params], batch: dict[str, jax.Array], key: jax.Array
    ) -> Prepared:
        """Mixes the batch and asks the teachers, whose parameters are `frozen`, by name."""
        config, classes = self.config, self.student.config.num_classes
        # What comes after a barrier compiles to the same whatever is before it, and the other way
        # round: whoever else is taught, and whether the answers are given now or were stored.
        mixed = jax.lax.optimization_barrier(mix_views(config, key, batch["image"]))
        ids = same = None
        if config.losses.needs_captions:
            ids = captions_of(batch, config.block, "config.matching.block")
            same = number_texts(ids) if config.match_equal_texts else None
        if self.stored is None:
            view = mixed.images if config.teacher_view == "same" else batch["teacher_image"]
            answers = self._ask(frozen, view, ids)
        else:
            prefix = len(self.stored)
            stored = {k[prefix:]: v for k, v in batch.items() if k.startswith(self.stored)}
            answers = decode(stored, classes)
        targets = None
        if self.needs_labels:
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
            ids=ids,
            same=same,
            teachers=answers,
        )
        return jax.lax.optimization_barrier(prepared)

    def loss(self, params: Params, prepared: Prepared) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The weighted sum of the terms; agreement with the teachers on the mixed views.

        The accuracy is over images with a label, and not a number where a batch has none.
        """
        output = self.student.apply(params, self.student.prepare(prepared.images))
        pair = _compared(self.student, params, output, prepared.ids)
        weights = self.config.losses.weights
        terms = {name: self._term(name, params, output, pair, prepared) for name in weights}
        loss: Any = sum(weights[name] * term for name, term in terms.items())
        metrics = terms if len(terms) > 1 else {}
        if pair is not None:
            texts, images = found_in_batch(pair, prepared.same, block=self.config.block)
            metrics = metrics | {"image_to_text_accuracy": texts, "text_to_image_accuracy": images}
        if "logits" in prepared.teachers:
            teacher = combine(prepared.teachers["logits"], self.teachers)
            metrics = metrics | {"agreement": jnp.mean(agreement(output.logits, teacher))}
        if self.labelled and self.student.config.num_classes:
            correct = jnp.argmax(output.logits, -1) == prepared.labels
            metrics = metrics | {"accuracy": jnp.mean(correct) / prepared.labelled_share[0]}
        return loss, metrics

    def _ask(self, frozen: Mapping[str, Params], view: jax.Array, ids: jax.Array | None) -> Answers:
        outputs = {
            name: teacher.network.apply(frozen[name], teacher.network.prepare(view))
            for name, teacher in self.teachers.items()
        }
        pairs = {
            name: _compared(self.teachers[name].network, frozen[name], out, ids)
            for name, out in outputs.items()
        }
        features = dict.fromkeys(self.config.losses.features)
        if comparable(self.student, self.teachers):
            features |= {"logits": None}
        found = {
            feature: {
                name: self._feature(feature, name, out, pairs[name])
                for name, out in outputs.items()
            }
            for feature in features
        }
        if self.config.several_teachers == "average" and "logits" in found:
            average = combine(found["logits"], self.teachers, self.config.temperature)
            found["logits"] = {"average": average}
        return found

    def _feature(
        self, feature: str, teacher: str, output: ViTOutput, pair: Similarities | None
    ) -> Any:
        if feature == "logits":
            return self.teachers[teacher].logits(output)
        return _of(feature, output, pair)

    def _term(
        self,
        name: str,
        params: Params,
        output: ViTOutput,
        pair: Similarities | None,
        prepared: Prepared,
    ) -> jax.Array:
        """One term over the batch, summed over the teachers."""
        term, config = known_terms()[name], self.config
        feature = term.compares
        if feature == "labels":
            assert prepared.targets is not None
            return term(prepared.targets, output.logits, config.temperature)
        if feature == "captions":
            return term(prepared.same, pair, block=config.block)
        averaged = feature == "logits" and config.several_teachers == "average"
        total: Any = 0.0
        for teacher, target in prepared.teachers[feature].items():
            if term.is_projected and not _is_joint(self.student, feature):
                ours = project(self.student, params, output, feature, teacher)
            else:
                ours = _float32(_of(feature, output, pair))
            if feature == "tokens":
                grid = self.teachers[teacher].network.config.grid
                target = resample_tokens(target, grid, self.student.config.grid)
            weight = 1.0 if averaged else self.teachers[teacher].weight
            total += weight * term(_float32(target), ours, config.temperature, config.block)
        return total


def _compared(
    network: VisionNetwork, params: Params, output: ViTOutput, ids: jax.Array | None
) -> Similarities | None:
    """What a pair compares images and texts by; None where the loss does not look at texts."""
    if ids is None:
        return None
    return network.apply(params, output.embedding, ids, method=compared)


def _of(feature: str, output: ViTOutput, pair: Similarities | None) -> Any:
    if feature == "similarities":
        return pair
    return getattr(pair if feature == "texts" else output, feature)


def _float32(values: Any) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), values)


def _is_joint(student: VisionNetwork, feature: str) -> bool:
    """Whether it is a pair's embedding, which is in the teacher's space and is not projected."""
    return feature == "embedding" and isinstance(student, PairNetwork)


def projected(
    student: VisionNetwork, teachers: Mapping[str, Teacher], config: MatchingConfig
) -> VisionNetwork:
    """The student with the projections that the terms of its loss compare by."""
    of = {"embedding": "embedding_width", "tokens": "width"}
    widths = {
        feature: {name: getattr(one.network.config, of[feature]) for name, one in teachers.items()}
        for feature in config.losses.projected
        if not _is_joint(student, feature)
    }
    return with_projections(student, widths)


def mix_views(config: MatchingConfig, key: jax.Array, images: jax.Array) -> Mixed:
    """Mixes a batch of views, [B, height, width, C], as a run with this config does."""
    return mix(
        key, images, mixup=config.mixup, cutmix=config.cutmix, per_example=config.per_example
    )


def same_mixture(config: MatchingConfig) -> Callable[[jax.Array], jax.Array]:
    """Mixes batches as a run with this config does, always by the same draw."""
    return lambda images: mix_views(config, jax.random.key(0), images).images
