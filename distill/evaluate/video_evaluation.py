"""Clips classified by a temporal transformer on frozen embeddings, and by their mean over time."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from distill.data import Source
from distill.data.sequences import Sequences, clip_starts, last_start
from distill.data.sources.base import count
from distill.errors import RunFailed, UserError
from distill.evaluate.clip_classifier import OFFSETS, Learning, fit_clips
from distill.evaluate.clips import (
    Clips,
    Embedded,
    Squares,
    check_readable,
    choose,
    describe_sequences,
    lengths_of,
)
from distill.evaluate.features import FeatureExtractor, Features, split_loader
from distill.evaluate.notes import Notes
from distill.evaluate.probe import fit_probe
from distill.nn import Params
from distill.parallel import distributed
from distill.subject import Subject

MEAN = "mean_over_time"
"""Of the baseline's metrics."""

# With fewer classes, one of the five most probable says little or nothing.
_TOP, _FEWEST_FOR_TOP = 5, 6


class _Asked(Learning, Protocol):
    """What is to be measured; see `distill.evaluate.video.VideoConfig`."""

    @property
    def source(self) -> str: ...
    @property
    def frames(self) -> int: ...
    @property
    def stride(self) -> int: ...
    @property
    def clips(self) -> int: ...
    @property
    def crops(self) -> int: ...
    @property
    def offsets(self) -> int: ...
    @property
    def stored(self) -> str: ...


class Labelled(NamedTuple):
    """The sequences of a split."""

    sequences: Sequences
    labels: np.ndarray
    """Among the classes to learn, int32 [N], −1 for a sequence without."""
    split: str


class _Counted(NamedTuple):
    """Of a split, in the last call."""

    sequences: int
    """Of which a clip could be decoded, and which have a label."""
    left_out: int
    """Which have a label, and of which no clip could be decoded."""
    looped: int
    """Of `sequences`, those that are shorter than a clip."""

    def __str__(self) -> str:
        notes = [
            *([f"{self.looped:,} shorter than a clip, looped"] if self.looped else []),
            *([f"{self.left_out:,} that cannot be decoded left out"] if self.left_out else []),
        ]
        return f" ({'; '.join(notes)})" if notes else ""


class VideoEvaluation:
    """What embeddings of frames say of a clip's class.

    Args:
      name: prefix of the metrics.
      config: what to measure.
      subject: the model.
      train: sequences to learn from; they say which classes there are.
      test: sequences to classify.
    """

    def __init__(
        self, name: str, config: _Asked, subject: Subject, train: Labelled, test: Labelled
    ):
        self._name, self._config, self._subject = name, config, subject
        self._train, self._test = train, test
        self._classes = len(train.sequences.class_names)
        self._extract = FeatureExtractor(subject.network, config.stored)
        self._notes = Notes()
        self._clips: dict[str, tuple[Clips, np.ndarray]] = {}
        self._found: dict[str, _Counted] = {}
        self._details: dict[str, Any] = {}
        self.missing: frozenset[str] = frozenset()
        """Metrics of which the last call could say nothing."""
        self.remarks = self._remarks()

    def _remarks(self) -> tuple[str, ...]:
        train, test = self._train.sequences, self._test.sequences
        said = [f"{test.found}; to learn from, {train.found}"]
        if self._classes == 1:
            said.append(f"one class only, {train.class_names[0]!r}: there is nothing to tell apart")
        return tuple(said)

    @property
    def _asked(self) -> list[str]:
        top = [f"top{_TOP}_accuracy"] if self._classes >= _FEWEST_FOR_TOP else []
        return ["accuracy", *top, f"{MEAN}/accuracy"]

    def metrics(self, params: Params, frozen: Any = None) -> frozenset[str]:
        """What a call may find."""
        del params, frozen
        return frozenset(f"{self._name}/{one}" for one in self._asked)

    def __call__(self, params: Params, frozen: Any = None) -> dict[str, float]:
        """The metrics as `name/metric`; all processes must call it, and all get the same.

        Sequences without a label, and those of which no clip can be decoded, are left out.

        Raises:
          RunFailed: if an embedding or the transformer's loss is not finite, or too many sequences
            cannot be decoded.
          UserError: if there is nothing to learn from.
        """
        del frozen
        self._found, self._details = {}, {}
        self.missing = frozenset(f"{self._name}/{one}" for one in self._asked)
        test, train = self._chosen(self._test, self._test_begins), None
        if not len(test.sequence):
            self._notes.say(
                f"{self._name} missing: no sequence to classify can be decoded and has a label"
            )
            return {}
        train = self._chosen(self._train, self._train_begins)
        if not len(train.sequence):
            raise UserError(
                f"none of {len(self._train.sequences):,} sequences to learn from can be decoded "
                "and has a label"
            )
        counts = self._counts(params, train, test)
        self._details["counts"] = counts
        self.missing = frozenset()
        return {f"{self._name}/{one}": right / of for one, (right, of) in counts.items()}

    def _counts(self, params: Params, train: Clips, test: Clips) -> dict[str, list[int]]:
        """Of how many sequences the metrics are true, and of how many they are."""
        learnt = self._embedded(params, train, self._train)
        classifier = fit_clips(learnt, self._train.labels, self._classes, self._config)
        labels = self._train.labels[learnt.sequences]
        probe = fit_probe(learnt.means(), labels, self._classes, mesh=self._subject.mesh)
        self._details[MEAN] = {"l2": probe.l2}
        del learnt
        shares, means, sequences = [], [], np.empty(0, np.int64)
        for image in _IMAGES[: self._config.crops]:
            shown = self._embedded(params, test, self._test, image)
            sequences = shown.sequences
            shares.append(classifier(shown))
            means.append(shown.means())
        labels = self._test.labels[sequences]
        best = np.argsort(-np.mean(shares, axis=0), axis=1, kind="stable")
        by_mean = probe.classifier.scores(np.mean(means, axis=0)).argmax(axis=1)
        right = {
            "accuracy": best[:, 0] == labels,
            f"top{_TOP}_accuracy": (best[:, :_TOP] == labels[:, None]).any(axis=1),
            f"{MEAN}/accuracy": by_mean == labels,
        }
        # Other processes may have computed on another kind of device.
        return {one: [distributed.agree(int(right[one].sum())), len(labels)] for one in self._asked}

    def _chosen(self, split: Labelled, begins: Callable[[int, int], np.ndarray]) -> Clips:
        """The clips of a split, chosen once."""
        config, labelled = self._config, split.labels >= 0
        if without := np.count_nonzero(~labelled):
            self._notes.say(
                f"{without:,} of {len(labelled):,} sequences of {split.split} lack a label: left "
                "out"
            )
        if split.split not in self._clips:
            threads = self._subject.data.threads
            lengths = lengths_of(split.sequences, labelled, threads)
            clips = choose(
                split.sequences, lengths, begins, frames=config.frames, stride=config.stride
            )
            self._clips[split.split] = clips, lengths
        clips, lengths = self._clips[split.split]
        check_readable(
            split.sequences,
            np.flatnonzero(labelled),
            np.flatnonzero(lengths),
            self._subject.data.max_corrupt_share,
        )
        return clips

    def _embedded(
        self,
        params: Params,
        clips: Clips,
        split: Labelled,
        image: Callable[[Source], Source] = lambda one: one,
    ) -> Embedded:
        """The whole clips of a split, counted."""
        subject = self._subject
        # Whole sequences are counted, not their frames.
        data = dataclasses.replace(subject.data, max_corrupt_share=1.0)

        def embed(source: Source) -> Features:
            loader = split_loader(
                source,
                data,
                subject.mesh,
                size=max(subject.network.config.image_shape[:2]),
                batch_size=subject.batch_size,
                view=subject.view,
            )
            return self._extract(params, loader)

        found = clips.embedded(embed, image)
        asked = np.flatnonzero(split.labels >= 0)
        most, lengths = subject.data.max_corrupt_share, self._clips[split.split][1]
        lost = check_readable(split.sequences, asked, found.sequences, most)
        if not len(found.sequence):
            raise RunFailed(f"no clip of {split.split} can be decoded")
        span = (self._config.frames - 1) * self._config.stride + 1
        looped = int(np.count_nonzero(lengths[found.sequences] < span))
        self._found[split.split] = _Counted(len(found.sequences), lost, looped)
        return found

    def _test_begins(self, index: int, length: int) -> np.ndarray:
        del index
        config = self._config
        return clip_starts(length, config.frames, config.stride, config.clips)

    def _train_begins(self, index: int, length: int) -> np.ndarray:
        config = self._config
        places = last_start(length, config.frames, config.stride) + 1
        rng = np.random.default_rng((config.seed, OFFSETS, index))
        return np.sort(rng.permutation(places)[: config.offsets])

    def seen(self) -> list[str]:
        """How many sequences the last call has classified, and learnt from."""
        config = self._config
        if not self._found:
            return []
        train, test = (self._found[one.split] for one in (self._train, self._test))
        crops = f" × {config.crops} crops" if config.crops > 1 else ""
        return [
            f"{test.sequences:,} sequences of {config.source}, "
            f"{count(self._classes, 'class', 'classes')}, {count(config.clips, 'clip')} of "
            f"{config.frames} frames{crops} each{test}; {train.sequences:,} sequences to learn "
            f"from{train}"
        ]

    def about(self) -> dict[str, Any]:
        """The sequences to classify and to learn from, how frames are shown, and what was found."""
        source = self._config.source
        return {
            "data": [describe_sequences(self._test.sequences, source, self._test.split)],
            "learnt_from": [describe_sequences(self._train.sequences, source, self._train.split)],
            "view": dataclasses.asdict(self._subject.view),
            "among": None,
            "details": self._details
            | {"sequences": {split: one._asdict() for split, one in self._found.items()}},
        }


# The images of frames that are shown, the model's own first.
_IMAGES: tuple[Callable[[Source], Source], ...] = (
    lambda source: source,
    lambda source: Squares(source, 0),
    lambda source: Squares(source, 1),
)
