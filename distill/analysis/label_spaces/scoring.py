"""How often a model is right on a set, among the set's classes and among all."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distill.analysis.intervals import wilson_interval
from distill.analysis.label_spaces.label_space import (
    LabelSpace,
    NoClass,
    SetOrMap,
    known_label_spaces,
)
from distill.analysis.label_spaces.model_classes import (
    Combine,
    ModelClasses,
    combined,
    find_classes,
)
from distill.analysis.label_spaces.own_set import own_label_space
from distill.analysis.label_spaces.whole_set import remarks_on
from distill.analysis.predictions import Predictions
from distill.bounds import check_fields
from distill.errors import UserError
from distill.paths import IN_ORDER, ClassMap


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelSpaceConfig:
    """What counts as right, and which of the model's classes are meant."""

    label_space: SetOrMap
    """A known set, such as real or imagenet_a, or a JSON file {image or folder: class or list of
    classes} for another."""
    model_classes: ClassMap | None = None
    """For a model whose classes are not called by WordNet numbers: a JSON file {class of the set:
    list of the model's classes}, or in_order for ImageNet's 1,000 or ImageNet-21k's 21,843."""
    combine: Combine = "max"
    """How logits of several of the model's classes become that of the class they stand for: the
    highest, or the logarithm of the sum of their exponentials."""

    def __post_init__(self):
        check_fields(self)

    def score(self, predictions: Predictions) -> "ScoredSet":
        """Compares what a model says with what counts as right.

        Raises:
          UserError: if images or classes are not the set's, or a map is malformed.
        """
        if self.label_space in known_label_spaces():
            space = known_label_spaces()[self.label_space]
        else:
            space = own_label_space(Path(self.label_space), predictions.class_names)
            if space.vocabulary == predictions.class_names and self.model_classes:
                raise UserError(
                    f"{self.label_space} lists the model's own classes; leave out model_classes"
                )
        return score(predictions, space, model_classes=self.model_classes, combine=self.combine)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoredSet:
    """The n images of a set that count, and the ranks of what is right in each."""

    label_space: LabelSpace
    predictions: Predictions
    """Scores of the set's K classes, so that probabilities sum up to one among them. An image's
    label is, of the classes that are right, the one with the highest score; such an image is
    classified rightly if that is the highest of all."""
    rank: np.ndarray
    """int64 [n], how many of the set's classes come before that label."""
    rank_among_all: np.ndarray
    """int64 [n], the same among all classes of the vocabulary, such as ImageNet's 1,000."""
    left_out: int
    """Of images that do not count."""
    remarks: tuple[str, ...]
    """What a reader of the figures has to know."""

    @property
    def correct(self) -> np.ndarray:
        """bool [n], whether the set's class with the highest score is right."""
        return self.rank == 0

    @property
    def possible(self) -> np.ndarray:
        """bool [n], whether the model has a class that is right; else the label has no score.

        What depends on the label's probability, such as a temperature, is to be fitted to these.
        """
        return self.rank < len(self.label_space.class_names)

    def as_json(self) -> dict[str, Any]:
        """The figures, with 95 % intervals, among the set's classes and `among_all`."""
        space = self.label_space
        return {
            "label_space": space.name,
            "images": len(self.predictions),
            "published_images": space.images,
            "left_out": self.left_out,
            **_shares(self.rank, len(space.class_names)),
            "among_all": _shares(self.rank_among_all, len(space.vocabulary)),
            "remarks": list(self.remarks),
        }


def _shares(rank: np.ndarray, classes: int) -> dict[str, Any]:
    found: dict[str, Any] = {"classes": classes}
    for prefix, best in {"": 1, "top5_": 5}.items():
        # What the model has no class for has the rank after the last.
        correct = int((rank < min(best, classes)).sum())
        found[f"{prefix}correct"] = correct
        found[f"{prefix}accuracy"] = correct / rank.size
        found[f"{prefix}interval"] = list(wilson_interval(correct, rank.size))
    return found


def score(
    predictions: Predictions,
    space: LabelSpace,
    *,
    model_classes: str | None = None,
    combine: Combine = "max",
) -> ScoredSet:
    """Compares what a model says with what counts as right.

    The model's scores become those of the vocabulary's classes, and these, by their maximum, those
    of the set's. Equal scores rank in the order of the classes.

    Args:
      predictions: of the set's images, each named by its path or, as TFDS has it, its file name.
      space: the set.
      model_classes: which classes of the model are the vocabulary's; see `find_classes`.
      combine: how scores of several of the model's classes are made one.

    Raises:
      UserError: naming the first image that is none of the set's; if none counts; if the model's
        classes are not told; or the map is malformed.
    """
    own = find_classes(predictions.class_names, space.vocabulary, model_classes)
    accepted, by_label = _accepted(predictions, space, own)
    counted = np.array([bool(classes) for classes in accepted], bool)
    if not counted.any():
        raise UserError(f"none of {len(counted):,} images counts on {space.name}")
    accepted = [classes for classes in accepted if classes]
    shown = predictions.where(counted)
    everything = combined(shown.scores, own.members, shown.scale, combine)
    scores = combined(everything, space.members, shown.scale, "max")
    among_all = [[n for one in classes for n in space.members[one]] for classes in accepted]
    label, rank = _ranks(scores, accepted)
    return ScoredSet(
        label_space=space,
        predictions=_among_the_sets(shown, space, scores, label),
        rank=rank,
        rank_among_all=_ranks(everything, among_all)[1],
        left_out=int((~counted).sum()),
        remarks=(
            *_remarks_on_classes(space, own, model_classes),
            *by_label,
            *([space.terms] if space.terms else []),
            *remarks_on(space, shown.names, accepted),
        ),
    )


def _accepted(
    predictions: Predictions, space: LabelSpace, own: ModelClasses
) -> tuple[list[Sequence[int]], list[str]]:
    """What each image may be taken for, and what is to be said of labels."""
    place_of = {number: place for place, numbers in enumerate(space.members) for number in numbers}
    found, labelled, against = [], 0, 0
    for name, label in zip(predictions.names.tolist(), predictions.labels.tolist(), strict=True):
        by_label = place_of.get(own.of_labels.get(label, -1))
        try:
            classes = space.accepted(name)
        except ValueError as error:
            if not isinstance(error, NoClass) or not space.by_label or label < 0:
                raise UserError(f"image {name} is none of {space.name}: {error}") from error
            if by_label is None:
                raise UserError(
                    f"the label of image {name} is the model's class {label}, "
                    f"{predictions.class_names[label]}, which is none of {space.name}'s "
                    f"{len(place_of):,} classes; labels must not be ranks of folders"
                ) from error
            classes, labelled = (by_label,), labelled + 1
        against += space.by_label and label >= 0 and by_label not in classes
        found.append(classes)
    remarks = []
    if labelled:
        remarks.append(f"images whose names say no class, so that their labels do: {labelled:,}")
    if against:
        remarks.append(
            f"warning: images whose labels say another class than their names, which count: "
            f"{against:,}"
        )
    return found, remarks


def _ranks(scores: np.ndarray, accepted: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Of each image the accepted class that comes first, and how many of all come before it.

    Classes that the model does not have, of a score of −inf, come after all others.
    """
    counts = np.array([len(classes) for classes in accepted])
    rows = np.repeat(np.arange(len(scores)), counts)
    columns = np.concatenate([np.asarray(classes) for classes in accepted])
    order = np.lexsort((columns, -scores[rows, columns], rows))
    label = columns[order][np.cumsum(counts) - counts]
    best = scores[np.arange(len(scores)), label][:, None]
    before = (scores > best) | ((scores == best) & (np.arange(scores.shape[1]) < label[:, None]))
    return label, np.where(np.isneginf(best[:, 0]), scores.shape[1], before.sum(axis=1))


def _among_the_sets(
    shown: Predictions, space: LabelSpace, scores: np.ndarray, label: np.ndarray
) -> Predictions:
    """The predictions among the set's classes alone."""
    absent = np.isneginf(scores)
    if shown.scale == "logits":
        scores = np.where(absent, np.finfo(scores.dtype).min, scores)
    else:
        scores = np.where(absent, 0, scores).astype(np.float64)
        total = scores.sum(axis=1, keepdims=True)
        if not total.all():
            first = shown.names[np.flatnonzero(total == 0)[0]]
            raise UserError(
                f"the probabilities of {space.name}'s classes in image {first} are all 0, so that "
                "none is the highest; expected logits, or probabilities that are not rounded"
            )
        scores = scores / total
    return dataclasses.replace(shown, scores=scores, class_names=space.class_names, labels=label)


def _remarks_on_classes(
    space: LabelSpace, own: ModelClasses, model_classes: str | None
) -> list[str]:
    remarks = []
    if model_classes == IN_ORDER:
        remarks.append("the model's classes are taken to be in the order of ImageNet's")
    scored = {number for numbers in space.members for number in numbers}
    if absent := [n for n in np.flatnonzero(own.absent).tolist() if n in scored]:
        names = ", ".join(space.vocabulary[number] for number in absent[:5])
        remarks.append(
            f"warning: the model has no class for {len(absent):,} of {len(scored):,} classes, "
            f"whose images count as wrong: {names}{', …' if len(absent) > 5 else ''}"
        )
    return remarks
