"""How alike two observers answer, beyond what their accuracies make likely.

Geirhos, Meding and Wichmann, "Beyond accuracy: quantifying trial-by-trial behaviour of CNNs and
humans by measuring error consistency" (arXiv 2006.16736), averaged as by the benchmark (arXiv
2106.07411).
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from distill.analysis.human.datasets import HUMAN, Dataset, image_id
from distill.analysis.human.trials import Trials
from distill.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answers:
    """What O observers answered in a set, side by side: K trials that count, the same for all."""

    dataset: str
    observers: tuple[str, ...]
    conditions: np.ndarray
    """int64 [K], a number from 0 for each condition."""
    images: tuple[str, ...]
    """Names that all observers' trials have in common."""
    categories: np.ndarray
    """int8 [K], what was right."""
    answers: np.ndarray
    """int8 [O, K]."""

    @property
    def correct(self) -> np.ndarray:
        """bool [O, K]."""
        return self.answers == self.categories

    @property
    def humans(self) -> np.ndarray:
        """int64, the rows of people."""
        return np.array([row for row, one in enumerate(self.observers) if _human(one)], np.int64)

    @property
    def models(self) -> np.ndarray:
        """int64, the rows of models."""
        return np.setdiff1d(np.arange(len(self.observers)), self.humans)


def _human(observer: str) -> bool:
    return HUMAN.fullmatch(observer) is not None


class Pairs(NamedTuple):
    """Figures of pairs of observers, float64 [R, P], means over conditions."""

    accuracy_difference: np.ndarray
    """(p1 − p2)² of two accuracies."""
    observed_consistency: np.ndarray
    """Share of trials in which both are right or both wrong."""
    error_consistency: np.ndarray
    """Cohen's kappa of being right: how far the observed consistency lies above that of two
    independent observers of the same accuracies, over how far it could. One if all agrees."""


def align(dataset: Dataset, trials: Sequence[Trials]) -> Answers:
    """Puts observers' trials side by side; conditions that are left out are gone.

    Args:
      dataset: theirs.
      trials: of each observer one for each of their files. The first is what the others are
        compared with.

    Raises:
      UserError: naming file and line, if an observer saw an image twice, other images than the
        first one did, or one of another category.
    """
    of_observer: dict[str, list[Trials]] = {}
    for one in trials:
        of_observer.setdefault(one.observer, []).append(one)
    first = next(iter(of_observer.values()))
    if (count := sum(map(len, first))) != dataset.images:
        raise UserError(
            f"{first[0].place()}: {first[0].observer} has {count} trials with {dataset.name}; "
            f"expected {dataset.images}, one for each image and condition"
        )
    reference, *_ = seen = [_keyed(dataset, files) for files in of_observer.values()]
    keys = sorted(reference)
    for observer in seen:
        _check_alike(dataset, reference, observer)
    conditions = sorted({condition for condition, _ in keys})
    number = {condition: place for place, condition in enumerate(conditions)}
    places = [[observer[key] for key in keys] for observer in seen]
    return Answers(
        dataset=dataset.name,
        observers=tuple(of_observer),
        conditions=np.array([number[condition] for condition, _ in keys]),
        images=tuple(image for _, image in keys),
        categories=np.array([one.categories[row] for one, row in places[0]], np.int8),
        answers=np.array([[one.answers[row] for one, row in mine] for mine in places], np.int8),
    )


Key = tuple[str, str]
"""Condition and image."""
Place = tuple[Trials, int]
"""A trial: where it stands."""


def _keyed(dataset: Dataset, files: Sequence[Trials]) -> dict[Key, Place]:
    """Where an observer's trials are.

    Raises:
      UserError: if two are with the same image under the same condition, or none counts.
    """
    found: dict[Key, Place] = {}
    for trials in files:
        for row, key in enumerate(_keys(dataset, trials.conditions, trials.images)):
            if key[0] in dataset.left_out:
                continue
            if key in found:
                before, line = found[key]
                raise UserError(
                    f"{trials.place(row)}: {trials.observer} sees {trials.images[row]} under "
                    f"condition {trials.conditions[row]} again, after {before.place(line)}; "
                    "expected each image once"
                )
            found[key] = (trials, row)
    if not found:
        raise UserError(f"{files[0].place()}: no trial is under a condition that counts")
    return found


# Models mostly have the same names in the same order.
@functools.lru_cache(maxsize=4)
def _keys(dataset: Dataset, conditions: tuple[str, ...], images: tuple[str, ...]) -> list[Key]:
    spelled = {text: dataset.condition(text) for text in set(conditions)}
    return [(spelled[text], image_id(name)) for text, name in zip(conditions, images, strict=True)]


def _check_alike(dataset: Dataset, reference: dict[Key, Place], observer: dict[Key, Place]) -> None:
    """Checks that an observer was shown what the first one was.

    Raises:
      UserError: naming the first trial that is missing, or that the first observer has not seen.
    """
    whose = next(iter(reference.values()))[0].observer
    for key, (trials, row) in observer.items():
        if key not in reference:
            known = sorted({condition for condition, _ in reference})
            raise UserError(
                f"{trials.place(row)}: {whose} has not seen {key[1]} under condition "
                f"{trials.conditions[row]} of {dataset.name}; expected the benchmark's images and "
                f"one of its conditions: {', '.join((*known, *dataset.left_out))}"
            )
        first, line = reference[key]
        if trials.categories[row] != first.categories[line]:
            raise UserError(
                f"{trials.place(row)}: {trials.images[row]} has another category than for "
                f"{whose}; expected the one that is part of its name or folder"
            )
    if missing := sorted(reference.keys() - observer.keys()):
        trials = next(iter(observer.values()))[0]
        condition, image = missing[0]
        raise UserError(
            f"{trials.place()}: {trials.observer} has {len(observer)} of {len(reference)} trials "
            f"that count in {dataset.name}; the first that is missing is {image} under condition "
            f"{condition}. Run the model on the whole set"
        )


def pair_figures(answers: Answers, pairs: np.ndarray, weights: np.ndarray) -> Pairs:
    """Compares observers, condition by condition.

    Args:
      answers: theirs.
      pairs: int64 [2, P], rows of `answers`.
      weights: float32 [R, K], how often each trial counts; the counts of a condition sum up to the
        number of its trials.
    """
    first, second = pairs
    all_correct, conditions = answers.correct, np.unique(answers.conditions)
    sums = np.zeros((3, len(weights), first.size))
    for condition in conditions:
        mine = answers.conditions == condition
        correct, weight, count = all_correct[:, mine], weights[:, mine], np.float64(mine.sum())
        # Counts are exact in float32.
        accuracy = weight @ correct.T.astype(np.float32) / count
        alike = weight @ (correct[first] == correct[second]).T.astype(np.float32) / count
        sums += _compared(accuracy[:, first], accuracy[:, second], alike)
    return Pairs(*sums / conditions.size)


def _compared(p1: np.ndarray, p2: np.ndarray, observed: np.ndarray) -> np.ndarray:
    expected = p1 * p2 + (1 - p1) * (1 - p2)
    kappa, all_alike = np.ones_like(observed), observed == 1
    # What is expected is one only where all are alike.
    np.divide(observed - expected, 1 - expected, out=kappa, where=~all_alike)
    return np.stack([(p1 - p2) ** 2, observed, kappa])


def resampled(conditions: np.ndarray, times: int, generator: np.random.Generator) -> np.ndarray:
    """Draws images with replacement, as many of each condition as there are.

    Args:
      conditions: int64 [K].
      times: how often, R.
      generator: of what is drawn.

    Returns:
      float32 [R, K], how often each image was drawn. All observers share a draw.
    """
    counts = np.zeros((times, conditions.size), np.float32)
    for condition in np.unique(conditions):
        mine = np.flatnonzero(conditions == condition)
        drawn = generator.integers(mine.size, size=(times, mine.size))
        drawn += mine.size * np.arange(times)[:, None]
        flat = np.bincount(drawn.ravel(), minlength=times * mine.size)
        counts[:, mine] = flat.reshape(times, mine.size)
    return counts
