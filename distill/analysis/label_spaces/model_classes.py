"""A model's scores of a set's classes, whatever the model's own classes are."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from distill.analysis.label_spaces.class_lists import numbers_of, read_class_lists
from distill.analysis.label_spaces.data_files import imagenet21k_wnids, imagenet_wnids
from distill.analysis.predictions import Scale
from distill.errors import UserError
from distill.paths import IN_ORDER

Combine = Literal["max", "logsumexp"]
"""How the scores of several of a model's classes become that of the class they stand for."""


@dataclasses.dataclass(frozen=True)
class ModelClasses:
    """Which of a model's classes stand for each class of a vocabulary of V.

    Args:
      members: V lists of numbers of the model's classes; empty for what it does not have.
    """

    members: tuple[tuple[int, ...], ...]

    @functools.cached_property
    def absent(self) -> np.ndarray:
        """bool [V], where the model has no such class."""
        return np.array([not numbers for numbers in self.members])

    @functools.cached_property
    def of_labels(self) -> dict[int, int]:
        """The vocabulary's number of those of the model's classes that stand for one alone."""
        found: dict[int, list[int]] = {}
        for place, numbers in enumerate(self.members):
            for number in numbers:
                found.setdefault(number, []).append(place)
        return {number: places[0] for number, places in found.items() if len(places) == 1}


def find_classes(
    class_names: Sequence[str], vocabulary: Sequence[str], model_classes: str | None = None
) -> ModelClasses:
    """Finds a vocabulary's classes among a model's.

    A model has them by name, or ImageNet-21k's, among which ImageNet's are.

    Args:
      class_names: the model's, in the order of its scores.
      vocabulary: names, each once.
      model_classes: the path of a JSON object {class of the vocabulary: class of the model, or a
        list of them}, names or numbers; or "in_order" for a model of as many classes as the
        vocabulary or ImageNet-21k has, in that order, under other names.

    Raises:
      UserError: if the model's classes are none of these, or the map is malformed.
    """
    class_names, vocabulary = tuple(class_names), tuple(vocabulary)
    if model_classes not in (None, IN_ORDER):
        return _mapped(class_names, vocabulary, Path(model_classes))
    if class_names == vocabulary:
        return ModelClasses(tuple((number,) for number in range(len(vocabulary))))
    if model_classes == IN_ORDER:
        class_names = _in_order(class_names, vocabulary)
    number = {name: place for place, name in enumerate(class_names)}
    strangers = [name for name in vocabulary if name not in number]
    if len(number) < len(class_names) or len(strangers) > len(vocabulary) // 2:
        raise UserError(
            f"the model's {len(class_names):,} classes are called {', '.join(class_names[:3])}, …; "
            f"expected {', '.join(vocabulary[:3])}, … If they are in that order, say "
            f"model_classes={IN_ORDER}; else model_classes=FILE, a JSON object "
            f'{{"{vocabulary[0]}": ["class of the model", …], …}}'
        )
    return ModelClasses(tuple((number[n],) if n in number else () for n in vocabulary))


def _in_order(class_names: tuple[str, ...], vocabulary: tuple[str, ...]) -> tuple[str, ...]:
    """The names that the user says a model's classes have.

    Raises:
      UserError: if there are not as many, or one of them is another's.
    """
    known = [vocabulary, *([imagenet21k_wnids()] if vocabulary == imagenet_wnids() else [])]
    names = next((names for names in known if len(names) == len(class_names)), None)
    if names is None:
        counts = " or ".join(f"{len(names):,}" for names in known)
        raise UserError(
            f"model_classes={IN_ORDER}, but the model has {len(class_names):,} classes; expected "
            f"{counts}, or model_classes=FILE"
        )
    elsewhere = {*names}
    for place, (own, name) in enumerate(zip(class_names, names, strict=True)):
        if own != name and own in elsewhere:
            raise UserError(
                f"model_classes={IN_ORDER}, but the model's class {place} is {own}, not {name}; "
                "leave model_classes out, and they are found by name"
            )
    return names


def _mapped(class_names: Sequence[str], vocabulary: Sequence[str], file: Path) -> ModelClasses:
    found = numbers_of(read_class_lists(file), class_names, file)
    known = {*vocabulary}
    if strangers := [name for name in found if name not in known]:
        raise UserError(
            f"{file} has {strangers[0]!r}, which is none of the {len(known):,} classes "
            f"{', '.join(vocabulary[:3])}, …"
        )
    return ModelClasses(tuple(tuple(found.get(name, ())) for name in vocabulary))


def combined(
    scores: np.ndarray, members: Sequence[Sequence[int]], scale: Scale, by: Combine
) -> np.ndarray:
    """The scores of classes that several others stand for.

    Args:
      scores: [N, C], of the others.
      members: the numbers, below C, of those that stand for each of V.
      scale: that of the scores.
      by: the highest logit, or the logarithm of the sum of their exponentials; of probabilities
        the highest or the sum, which is the same.

    Returns:
      [N, V] of the scores' type and scale; −inf for a class for which none stands.
    """
    logarithms = scale == "logits"
    join = np.maximum if by == "max" else np.logaddexp if logarithms else np.add
    found = np.take(scores, [numbers[0] if numbers else 0 for numbers in members], axis=1)
    found[:, [not numbers for numbers in members]] = -np.inf
    for place in range(1, max(map(len, members))):
        classes = [one for one, numbers in enumerate(members) if len(numbers) > place]
        taken = np.take(scores, [members[one][place] for one in classes], axis=1)
        found[:, classes] = join(found[:, classes], taken)
    return found
