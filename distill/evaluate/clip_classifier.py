"""The class of a sequence by a temporal transformer over clips of it."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from distill.analysis.linear import Standardisation
from distill.evaluate.clips import Embedded
from distill.evaluate.temporal import (
    TemporalConfig,
    TemporalTraining,
    class_probabilities,
    fit_temporal,
    temporal_network,
)
from distill.nn import Network, Params

# What is drawn, in the keys of draws.
OFFSETS, _ORDER, _SHOWN = range(3)


class Learning(Protocol):
    """How a transformer is trained; see `distill.evaluate.video.VideoConfig`."""

    @property
    def steps(self) -> int:
        """Of training."""
        ...

    @property
    def batch_size(self) -> int:
        """Sequences of a step, or all if there are fewer."""
        ...

    @property
    def learning_rate(self) -> float:
        """At its peak."""
        ...

    @property
    def weight_decay(self) -> float:
        """Multiplied by the rate."""
        ...

    @property
    def seed(self) -> int:
        """Of all draws."""
        ...

    def shape(self, features: int, classes: int) -> TemporalConfig:
        """The transformer of embeddings of this width."""
        ...


class ClipClassifier(NamedTuple):
    """A transformer that is trained."""

    network: Network
    params: Params
    standardisation: Standardisation
    """Of the embeddings it is given."""

    def __call__(self, clips: Embedded) -> np.ndarray:
        """The mean over clips of the softmax, of each sequence of which there are any: [S, C]."""
        given = _standardised(clips, self.standardisation)
        shares = class_probabilities(self.network, self.params, given, len(clips.sequence))
        _, begins, counts = np.unique(clips.sequence, return_index=True, return_counts=True)
        return np.add.reduceat(shares, begins, axis=0) / counts[:, None]


def fit_clips(
    learnt: Embedded, labels: np.ndarray, classes: int, learning: Learning
) -> ClipClassifier:
    """Trains a transformer, in each epoch on one clip of each sequence.

    Args:
      learnt: at least one clip.
      labels: of all sequences by their numbers, int [N].
      classes: C.
      learning: how it is trained.

    Raises:
      RunFailed: if its loss is not finite.
    """
    standard = Standardisation.of(learnt.frames)
    network = temporal_network(learning.shape(learnt.frames.shape[1], classes))
    training = TemporalTraining(
        steps=learning.steps,
        learning_rate=learning.learning_rate,
        weight_decay=learning.weight_decay,
        seed=learning.seed,
    )
    draw = Draws(learnt.sequence, learning.batch_size, learning.seed)
    clips, own = _standardised(learnt, standard), labels[learnt.sequence]

    def batch(step: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = draw(step)
        return clips(chosen), own[chosen]

    return ClipClassifier(network, fit_temporal(network, training, batch), standard)


class Draws:
    """Which clips a step is shown: in each epoch every sequence once, one of its clips.

    Args:
      sequence: of each clip, ascending.
      batch_size: sequences of a step, or all if there are fewer.
      seed: of all draws.
    """

    def __init__(self, sequence: np.ndarray, batch_size: int, seed: int):
        _, self._begins, self._counts = np.unique(sequence, return_index=True, return_counts=True)
        self._size, self._seed = min(batch_size, len(self._begins)), seed
        # A batch reaches into two epochs at most.
        self._order = functools.lru_cache(2)(self._drawn_order)

    def _drawn_order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self._seed, _ORDER, epoch)).permutation(len(self._begins))

    def __call__(self, step: int) -> np.ndarray:
        """Numbers of clips, int [B]."""
        epochs, places = np.divmod(
            np.arange(step * self._size, (step + 1) * self._size), len(self._begins)
        )
        chosen = np.array(
            [self._order(one)[place] for one, place in zip(epochs.tolist(), places, strict=True)]
        )
        rng = np.random.default_rng((self._seed, _SHOWN, step))
        return self._begins[chosen] + rng.integers(self._counts[chosen])


def _standardised(clips: Embedded, standard: Standardisation) -> Callable[[Any], np.ndarray]:
    """From numbers of clips to their embeddings, float32 [n, T, D]."""

    def chosen(which: np.ndarray | slice) -> np.ndarray:
        return standard(clips.frames[clips.rows[which]]).astype(np.float32)

    return chosen
