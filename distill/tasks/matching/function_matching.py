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
from distill.parallel.microbatches import Whole
from distill.subject import Teacher, combine, comparable
from distill.tasks.matching.config import MatchingConfig
from distill.tasks.matching.layers import (
    apply_with_layers,
    compared_layers,
    layers_of_student,
    layers_of_teacher,
    pair_name,
)
from distill.tasks.matching.projections import PROJECTIONS, project, with_projections
from distill.tasks.matching.standardise import (
    STATISTICS,
    Statistics,
    abstract_statistics,
    standardise,
)
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
    statistics: Whole | None
    """By which some of it is standardised; None if nothing is."""


class _Seen(NamedTuple):
    """What a model makes of a batch."""

    output: ViTOutput
    layers: jax.Array | None
    """Tokens of layers, [B, K, T, D]; None if none are compared."""
    pair: Similarities | None
    """What a pair compares images and texts by; None where the loss does not look at texts."""

    def of(self, feature: str) -> Any:
        """One of `distill.losses.FEATURES`."""
        if feature == "similarities":
            return self.pair
        if feature == "layers":
            return self.layers
        return getattr(self.pair if feature == "texts" else self.output, feature)


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

    @property
    def standardised(self) -> tuple[str, ...]:
        """What is compared with mean 0 and variance 1: some of embedding, tokens, layers."""
        if self.config.standardise == "none":
            return ()
        return _projected_features(self.student, self.config)

    @property
    def abstract_statistics(self) -> Statistics:
        """By which teachers are standardised, as `jax.ShapeDtypeStruct`s; what `prepare` is given.

        Raises:
          ValueError: for a width that PHI-S cannot turn.
        """
        kind = self.config.standardise
        if kind == "none":
            return {}
        shapes = {}
        for feature in self.standardised:
            widths = _widths(feature, self.teachers)
            counts = {
                name: (len(layers_of_teacher(self.config, name)),) if feature == "layers" else ()
                for name in widths
            }
            shapes[feature] = {name: (*counts[name], width) for name, width in widths.items()}
        return abstract_statistics(kind, shapes)

    def prepare(
        self, frozen: Mapping[str, Params], batch: dict[str, jax.Array], key: jax.Array
    ) -> Prepared:
        """Mixes the batch and asks the teachers, whose parameters are `frozen`, by name.

        Statistics to standardise them by are frozen under `STATISTICS`.
        """
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
            statistics=Whole(frozen[STATISTICS]) if self.standardised else None,
        )
        return jax.lax.optimization_barrier(prepared)

    def loss(self, params: Params, prepared: Prepared) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The weighted sum of the terms; agreement with the teachers on the mixed views.

        The accuracy is over images with a label, and not a number where a batch has none.
        """
        layers = layers_of_student(self.config, self.teachers)
        seen = self._see(self.student, params, prepared.images, prepared.ids, layers)
        output, pair = seen.output, seen.pair
        weights = self.config.losses.weights
        standardised: Answers = {}
        if prepared.statistics is not None:
            standardised = standardise(prepared.teachers, prepared.statistics.values)
        terms = {name: self._term(name, params, seen, prepared, standardised) for name in weights}
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

    def _see(
        self,
        network: VisionNetwork,
        params: Params,
        view: jax.Array,
        ids: jax.Array | None,
        layers: tuple[int, ...],
    ) -> _Seen:
        output, tokens = apply_with_layers(
            network, params, view, layers, normed=self.config.layers_normed
        )
        pair = None
        if ids is not None:
            pair = network.apply(params, output.embedding, ids, method=compared)
        return _Seen(output, tokens, pair)

    def _ask(self, frozen: Mapping[str, Params], view: jax.Array, ids: jax.Array | None) -> Answers:
        seen = {
            name: self._see(
                teacher.network, frozen[name], view, ids, layers_of_teacher(self.config, name)
            )
            for name, teacher in self.teachers.items()
        }
        features = dict.fromkeys(self.config.losses.features)
        if comparable(self.student, self.teachers):
            features |= {"logits": None}
        found = {
            feature: {name: self._feature(feature, name, one) for name, one in seen.items()}
            for feature in features
        }
        if self.config.several_teachers == "average" and "logits" in found:
            average = combine(found["logits"], self.teachers, self.config.temperature)
            found["logits"] = {"average": average}
        return found

    def _feature(self, feature: str, teacher: str, seen: _Seen) -> Any:
        if feature == "logits":
            return self.teachers[teacher].logits(seen.output)
        return seen.of(feature)

    def _term(
        self,
        name: str,
        params: Params,
        seen: _Seen,
        prepared: Prepared,
        standardised: Answers,
    ) -> jax.Array:
        """One term over the batch, summed over the teachers."""
        term, config = known_terms()[name], self.config
        feature = term.compares
        if feature == "labels":
            assert prepared.targets is not None
            return term(prepared.targets, seen.output.logits, config.temperature)
        if feature == "captions":
            return term(prepared.same, seen.pair, block=config.block)
        averaged = feature == "logits" and config.several_teachers == "average"
        is_projected = term.is_projected and not _is_joint(self.student, feature)
        answers = prepared.teachers | (standardised if is_projected else {})
        total: Any = 0.0
        for teacher, target in answers[feature].items():
            ours, pairs = seen.of(feature), config.pairs(teacher)
            if feature == "layers":
                all_ours = layers_of_student(config, self.teachers)
                ours = compared_layers(all_ours, ours, pairs, 0)
                target = compared_layers(layers_of_teacher(config, teacher), target, pairs, 1)
            if is_projected:
                names = tuple(map(pair_name, pairs))
                ours = project(self.student, params, ours, feature, teacher, names)
            else:
                ours = _float32(ours)
            if feature in ("tokens", "layers"):
                grid = self.teachers[teacher].network.config.grid
                target = resample_tokens(target, grid, self.student.config.grid)
            weight = 1.0 if averaged else self.teachers[teacher].weight
            total += weight * term(_float32(target), ours, config.temperature, config.block)
        return total


def _float32(values: Any) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), values)


def _is_joint(student: VisionNetwork, feature: str) -> bool:
    """Whether it is a pair's embedding, which is in the teacher's space and is not projected."""
    return feature == "embedding" and isinstance(student, PairNetwork)


def projected(
    student: VisionNetwork, teachers: Mapping[str, Teacher], config: MatchingConfig
) -> VisionNetwork:
    """The student with the projections that the terms of its loss compare by."""
    widths = {}
    for feature in _projected_features(student, config):
        widths[feature] = _widths(feature, teachers)
        if feature == "layers":
            widths[feature] = {
                name: {pair_name(pair): width for pair in config.pairs(name)}
                for name, width in widths[feature].items()
            }
    return with_projections(student, widths)


def _projected_features(student: VisionNetwork, config: MatchingConfig) -> tuple[str, ...]:
    """What is compared in the teachers' spaces: some of embedding, tokens, layers."""
    return tuple(one for one in config.losses.projected if not _is_joint(student, one))


def _widths(feature: str, teachers: Mapping[str, Teacher]) -> dict[str, int]:
    """How wide a feature of each teacher is."""
    of = "embedding_width" if feature == "embedding" else "width"
    return {name: getattr(one.network.config, of) for name, one in teachers.items()}


def mix_views(config: MatchingConfig, key: jax.Array, images: jax.Array) -> Mixed:
    """Mixes a batch of views, [B, height, width, C], as a run with this config does."""
    return mix(
        key, images, mixup=config.mixup, cutmix=config.cutmix, per_example=config.per_example
    )


def same_mixture(config: MatchingConfig) -> Callable[[jax.Array], jax.Array]:
    """Mixes batches as a run with this config does, always by the same draw."""
    return lambda images: mix_views(config, jax.random.key(0), images).images
