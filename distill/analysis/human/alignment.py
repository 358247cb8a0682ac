"""Models beside people over all sets: accuracy, consistency, shape bias, and how sure they are."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np

from distill.analysis.human.consistency import Answers, align, pair_figures, resampled
from distill.analysis.human.datasets import DATASETS
from distill.analysis.human.shape_bias import DATASET as CUE_CONFLICT
from distill.analysis.human.shape_bias import Cues, ShapeBias, find_cues
from distill.analysis.human.trials import Trials
from distill.bounds import Between, ProperShare, Seed, check_fields
from distill.errors import UserError

FIGURES = ("accuracy", "accuracy_difference", "observed_consistency", "error_consistency")
INTERVALS = ("accuracy", "observed_consistency", "error_consistency", "shape_bias")
"""Figures with an interval. The accuracy difference has none: it is a square, which is larger in
any resample than in what is resampled."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignmentConfig:
    """How sure figures are is found by drawing images anew, with replacement."""

    resamples: Annotated[int, Between(0, 10**6)] = 1000
    """How often; 0 gives no intervals."""
    confidence: ProperShare = 0.95
    """Share of the resamples that an interval holds."""
    seed: Seed = 0
    """Of what is drawn."""

    def __post_init__(self):
        check_fields(self)


class Figures(NamedTuple):
    """A model with a set, or over sets. What is undefined is None."""

    accuracy: float | None
    accuracy_difference: float | None
    observed_consistency: float | None
    error_consistency: float | None


Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alignment:
    """A model beside people, or people beside each other (the ceiling)."""

    name: str
    by_dataset: Mapping[str, Figures]
    """Accuracy over a set's trials; the others are means over conditions, then over people."""
    shape_bias: ShapeBias | None
    """None without the set cue-conflict."""
    intervals: Mapping[str, Interval]
    """Of figures over all sets, and of the shape bias."""

    @property
    def overall(self) -> Figures:
        """Means over the sets, each counting once."""
        columns = zip(*self.by_dataset.values(), strict=True)
        return Figures(*(None if None in column else float(np.mean(column)) for column in columns))

    def as_json(self) -> dict[str, Any]:
        """All figures by name."""
        return {
            "name": self.name,
            "datasets": len(self.by_dataset),
            "datasets_missing": [name for name in DATASETS if name not in self.by_dataset],
            **self.overall._asdict(),
            "shape_bias": self.shape_bias and self.shape_bias.value,
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "by_dataset": {name: one._asdict() for name, one in self.by_dataset.items()},
            "cue_conflict": self.shape_bias and self.shape_bias.as_json(),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class HumanAlignment:
    """Models and people."""

    models: tuple[Alignment, ...]
    humans: Alignment
    """Their accuracy pooled, their shape bias pooled; of all pairs of them, the consistency: what a
    model that is as like a person as people are would reach."""
    subjects: Mapping[str, ShapeBias]
    """Of each person."""
    config: AlignmentConfig

    def as_json(self) -> dict[str, Any]:
        """All figures by name."""
        subjects = {name: one.value for name, one in self.subjects.items()}
        known = [value for value in subjects.values() if value is not None]
        return {
            "models": [one.as_json() for one in self.models],
            "humans": {
                **self.humans.as_json(),
                "shape_bias_by_subject": subjects,
                "shape_bias_mean_over_subjects": float(np.mean(known)) if known else None,
            },
            "intervals": dataclasses.asdict(self.config) | {"resampled": "images of a condition"},
        }


def human_alignment(trials: Sequence[Trials], config: AlignmentConfig) -> HumanAlignment:
    """Compares models with people.

    Args:
      trials: people's and models', of any sets; an observer may have several sessions.
      config: of the intervals.

    Raises:
      UserError: if there are no trials, or no people to compare with in a set, or what the
        observers of a set were shown differs.
    """
    parts = [
        _set_figures(name, [one for one in trials if one.dataset == name], config)
        for name in DATASETS
        if any(one.dataset == name for one in trials)
    ]
    if not parts:
        raise UserError("there are no trials to compare")
    models = sorted({name for one in parts for name in one.figures if name is not None})
    subjects = {
        one.answers.observers[row]: one.cues.bias(np.array([row]))
        for one in parts
        if one.cues is not None
        for row in one.answers.humans
    }
    return HumanAlignment(
        models=tuple(_alignment(name, parts, config) for name in models),
        humans=_alignment(None, parts, config),
        subjects=subjects,
        config=config,
    )


class _SetFigures(NamedTuple):
    answers: Answers
    cues: Cues | None
    figures: dict[str | None, Figures]
    """By model; those of people are under None."""
    resamples: dict[str | None, dict[str, np.ndarray | None]]
    """By model and figure, [R]."""


def _set_figures(dataset: str, trials: Sequence[Trials], config: AlignmentConfig) -> _SetFigures:
    # A person comes first: that is whom the others are compared with.
    answers = align(DATASETS[dataset], sorted(trials, key=lambda one: not one.is_human))
    if not answers.humans.size:
        raise UserError(
            f"{trials[0].place()}: nobody's trials with {dataset} are beside those of "
            f"{trials[0].observer}; expected files such as {dataset}_subject-01_session_1.csv"
        )
    # The seed of a set does not depend on which others there are.
    generator = np.random.default_rng([config.seed, list(DATASETS).index(dataset)])
    weights = resampled(answers.conditions, config.resamples, generator)
    ones = np.ones((1, weights.shape[1]), np.float32)
    estimates, resamples = (_observer_figures(answers, some) for some in (ones, weights))
    figures = {
        name: Figures(*(None if one is None else float(one[0]) for one in found.values()))
        for name, found in estimates.items()
    }
    cues = find_cues(answers) if dataset == CUE_CONFLICT else None
    if cues is not None:
        for name, rows in _groups(answers).items():
            resamples[name]["shape_bias"] = cues.resampled(rows, weights)
    return _SetFigures(answers, cues, figures, resamples)


def _groups(answers: Answers) -> dict[str | None, np.ndarray]:
    """Rows of each model, and under None of people together."""
    return {answers.observers[row]: np.array([row]) for row in answers.models} | {
        None: answers.humans
    }


def _observer_figures(
    answers: Answers, weights: np.ndarray
) -> dict[str | None, dict[str, np.ndarray | None]]:
    """The figures of each model and of people, each [R]."""
    groups = _groups(answers)
    pairs = [_pairs(answers, name, rows) for name, rows in groups.items()]
    ends = np.cumsum([one.shape[1] for one in pairs])[:-1]
    compared = pair_figures(answers, np.concatenate(pairs, axis=1), weights)
    # [group][figure], [R, P] each.
    parts = zip(*(np.split(one, ends, axis=1) for one in compared), strict=True)
    correct = answers.correct
    right = np.array([correct[rows].sum(axis=0) for rows in groups.values()], np.float32)
    trials = np.array([correct[rows].size for rows in groups.values()], np.float64)
    accuracies = weights @ right.T / trials
    found = {}
    for name, accuracy, part in zip(groups, accuracies.T, parts, strict=True):
        means = [one.mean(axis=1) if one.size else None for one in part]
        found[name] = dict(zip(FIGURES, [accuracy, *means], strict=True))
    return found


def _pairs(answers: Answers, name: str | None, rows: np.ndarray) -> np.ndarray:
    """Whom to compare, int64 [2, P]: a model with each person, or people with each other."""
    humans = answers.humans
    if name is None:
        return humans[np.stack(np.triu_indices(humans.size, 1))]
    return np.stack([np.repeat(rows, humans.size), humans])


def _alignment(
    name: str | None, parts: Sequence[_SetFigures], config: AlignmentConfig
) -> Alignment:
    mine = [one for one in parts if name in one.figures]
    biases = [one.cues.bias(_groups(one.answers)[name]) for one in mine if one.cues is not None]
    intervals = {}
    for figure in INTERVALS:
        drawn = [found for one in mine if (found := one.resamples[name].get(figure)) is not None]
        if config.resamples and drawn and (figure == "shape_bias" or len(drawn) == len(mine)):
            intervals[figure] = _interval(np.mean(drawn, axis=0), config.confidence)
    return Alignment(
        name="humans" if name is None else name,
        by_dataset={one.answers.dataset: one.figures[name] for one in mine},
        shape_bias=biases[0] if biases else None,
        intervals={figure: ends for figure, ends in intervals.items() if ends is not None},
    )


def _interval(values: np.ndarray, confidence: float) -> Interval | None:
    if np.isnan(values).any():
        return None
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
