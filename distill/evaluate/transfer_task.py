"""What is asked of the features of one source: shots drawn, classifiers fitted and counted."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from jax.sharding import Mesh

from distill.data import Source, Subset
from distill.errors import UserError
from distill.evaluate.features import Features
from distill.evaluate.fewshot import draw_shots, drawing_orders, fit_ridge
from distill.evaluate.neighbours import check_neighbours, neighbour_predictions
from distill.evaluate.notes import Notes
from distill.evaluate.probe import fit_probe

Embed = Callable[[Source], Features]


class Asked(Protocol):
    """What is to be measured of frozen features; see `distill.evaluate.transfer.TransferConfig`."""

    @property
    def shots(self) -> tuple[int, ...]:
        """Images per class of few-shot linear regression."""
        ...

    @property
    def seeds(self) -> tuple[int, ...]:
        """Each draws other shots."""
        ...

    @property
    def l2(self) -> float:
        """Ridge penalty of few-shot regression."""
        ...

    @property
    def neighbours(self) -> tuple[int, ...]:
        """Neighbours that vote."""
        ...

    @property
    def probe(self) -> bool:
        """Whether to fit a logistic regression on all training images."""
        ...


class Counted(NamedTuple):
    """How many images there were, without those that are corrupt or have no label."""

    test: int
    """To classify."""
    train: int
    """To learn from."""


class TransferTask:
    """What is asked of one source.

    Args:
      config: what to measure.
      train: images to learn from.
      test: images to classify.

    Raises:
      UserError: if there are too few images for the shots or neighbours asked for.
    """

    def __init__(self, config: Asked, train: Source, test: Source):
        self.train, self.test = train, test
        self.counted = Counted(0, 0)
        """By the last evaluation."""
        self._config = config
        self._notes = Notes()
        self._classes = len(train.class_names)
        self._orders = {}
        if config.shots:
            labels = train.labels
            self._orders = {
                seed: drawing_orders(labels, self._classes, seed) for seed in config.seeds
            }
            self._draw(max(config.shots), config.seeds[0])
        if config.neighbours:
            check_neighbours(max(config.neighbours), len(train))

    @property
    def metrics(self) -> list[tuple[str, str]]:
        """What is asked for, by (kind, what of it)."""
        config = self._config
        seeds = ("", *(f"/seed{seed}" for seed in config.seeds))
        return [
            *(("fewshot", f"{shots}{seed}") for shots in config.shots for seed in seeds),
            *(("knn", str(k)) for k in config.neighbours),
            *(("probe", name) for name in ("accuracy", "l2") if config.probe),
        ]

    def evaluate(self, embed: Embed, mesh: Mesh) -> dict[tuple[str, str], float]:
        """The metrics by (kind, what of it); features are computed once for all of them.

        None where no image to classify has a label.
        """
        config = self._config
        test = self._labelled(embed(self.test), "to classify")
        self.counted = Counted(len(test.label), 0)
        if not self.counted.test:
            kinds = ", ".join(dict.fromkeys(kind for kind, _ in self.metrics))
            self._notes.say(f"{kinds} missing: no image to classify can be decoded and has a label")
            return {}
        if config.neighbours or config.probe:
            train = embed(self.train)
            readable = np.isin(np.arange(len(self.train)), train.index)
            train = self._labelled(train, "to learn from")
            learnable = len(train.label)
        else:
            train, readable = self._embed_shots(embed)
            has_label = self.train.labels >= 0
            self._say_unlabelled(has_label, "to learn from")
            learnable = int(np.count_nonzero(readable & has_label))
        if not learnable:
            raise UserError(
                f"none of {len(self.train):,} images to learn from can be decoded and has a label"
            )
        self.counted = Counted(len(test.label), learnable)
        found = {}
        if config.shots:
            found |= self._fewshot(train, test, readable)
        if config.neighbours:
            found |= self._neighbours(train, test)
        if config.probe:
            probe = fit_probe(train.embedding, train.label, self._classes, mesh=mesh)
            accuracy = probe.classifier.accuracy(test.embedding, test.label)
            found |= {("probe", "accuracy"): accuracy, ("probe", "l2"): probe.l2}
        return found

    def _labelled(self, features: Features, purpose: str) -> Features:
        """Those of images with a label."""
        has_label = features.label >= 0
        self._say_unlabelled(has_label, purpose)
        return Features(*(array[has_label] for array in features))

    def _say_unlabelled(self, has_label: np.ndarray, purpose: str) -> None:
        if without := np.count_nonzero(~has_label):
            self._notes.say(
                f"{without:,} of {len(has_label):,} images {purpose} lack a label: left out of the "
                "evaluation of features"
            )

    def _fewshot(
        self, train: Features, test: Features, readable: np.ndarray
    ) -> dict[tuple[str, str], float]:
        found = {}
        for shots in self._config.shots:
            accuracies = {}
            for seed in self._config.seeds:
                rows = np.searchsorted(train.index, self._draw(shots, seed, readable))
                classifier = fit_ridge(
                    train.embedding[rows], train.label[rows], self._classes, self._config.l2
                )
                accuracy = classifier.accuracy(test.embedding, test.label)
                accuracies["fewshot", f"{shots}/seed{seed}"] = accuracy
            found["fewshot", str(shots)] = float(np.mean(list(accuracies.values())))
            found |= accuracies
        return found

    def _neighbours(self, train: Features, test: Features) -> dict[tuple[str, str], float]:
        predictions = neighbour_predictions(
            train.embedding, train.label, test.embedding, self._classes, self._config.neighbours
        )
        return {("knn", str(k)): float(np.mean(p == test.label)) for k, p in predictions.items()}

    def _draw(self, shots: int, seed: int, readable: np.ndarray | None = None) -> np.ndarray:
        return draw_shots(self._orders[seed], shots, self.train.class_names, readable)

    def _embed_shots(self, embed: Embed) -> tuple[Features, np.ndarray]:
        """Features of the drawn images alone, and which images are not known to be corrupt.

        Goes round again where images turn out to be corrupt and others stand in for them.
        """
        most = max(self._config.shots)
        readable = np.ones(len(self.train), bool)
        found = []
        while True:
            drawn = [self._draw(most, seed, readable) for seed in self._config.seeds]
            known = [np.flatnonzero(~readable), *(part.index for part in found)]
            new = np.setdiff1d(np.concatenate(drawn), np.concatenate(known))
            if not len(new):
                return _in_order(found), readable
            part = embed(Subset(self.train, new))
            part = part._replace(index=new[part.index])
            readable[np.setdiff1d(new, part.index)] = False
            found.append(part)


def _in_order(parts: list[Features]) -> Features:
    whole = Features(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    order = np.argsort(whole.index)
    return Features(*(array[order] for array in whole))
