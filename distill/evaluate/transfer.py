"""Evaluations of frozen features: few-shot regression, nearest neighbours, linear probe."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from distill.data import DataConfig, Source, Subset
from distill.errors import UserError, check_each_once
from distill.evaluate.features import FeatureExtractor, Features, split_loader
from distill.evaluate.fewshot import draw_shots, drawing_orders, fit_ridge
from distill.evaluate.neighbours import check_neighbours, neighbour_predictions
from distill.evaluate.notes import Notes
from distill.evaluate.probe import fit_probe
from distill.evaluation_view import EvaluationView
from distill.nn import Network, Params
from distill.paths import SourceName

Embed = Callable[[Source], Features]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferConfig:
    """What to measure of frozen features, and on which images.

    Raises:
      ValueError: for values out of bounds, or if nothing is asked for.
    """

    sources: tuple[SourceName, ...] = ()
    """`digits`, `folder:PATH` or `tfds:NAME`; empty takes the run's own data."""
    classes: tuple[str, ...] = ()
    """Only images of these classes; empty takes all, and of the run's own data its classes."""
    train_split: str | None = None
    """Of shots, neighbours and the probe's training images; None takes the run's train_split, of
    the run's own data only its train_images."""
    test_split: str | None = None
    """Classified; None takes the run's validation_split, or test_split if there is none."""
    shots: tuple[int, ...] = (1, 5, 10, 25)
    """Images per class of few-shot linear regression; empty skips it."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each draws other shots."""
    l2: float = 2.0**10
    """Ridge penalty of few-shot regression."""
    neighbours: tuple[int, ...] = ()
    """Neighbours that vote, such as 20; empty skips it."""
    probe: bool = False
    """Logistic regression on all training images."""
    every: int | None = None
    """Steps between evaluations while training; None evaluates whenever the run does."""

    def __post_init__(self):
        for name in ("sources", "classes", "shots", "seeds", "neighbours"):
            check_each_once(name, getattr(self, name))
        if len(set(map(short_name, self.sources))) < len(self.sources):
            raise ValueError(
                f"sources must differ in their last parts, which metrics go by, not {self.sources}"
            )
        for name in ("shots", "neighbours"):
            if any(number < 1 for number in getattr(self, name)):
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        if any(seed < 0 for seed in self.seeds) or (self.shots and not self.seeds):
            raise ValueError(f"seeds must be one or more numbers from 0 on, not {self.seeds}")
        if self.l2 <= 0:
            raise ValueError(f"l2 must be positive, not {self.l2}")
        if self.every is not None and self.every < 1:
            raise ValueError(f"every must be positive, not {self.every}")
        if not (self.shots or self.neighbours or self.probe):
            raise ValueError("nothing to evaluate; give shots, neighbours or probe")


def short_name(source: str) -> str:
    """What metrics call a source: `folder:/data/flowers` is `flowers`."""
    kind, _, argument = source.partition(":")
    if kind == "folder":
        return Path(argument).name
    return argument.partition(":")[0].replace("/", "_") or kind


class TransferEvaluator:
    """Evaluates the features of `network` as a `TransferConfig` asks.

    Args:
      config: what to measure.
      data: the run's own data; also says how images of other sources are read and viewed.
      network: placed on the mesh to compute on.
      batch_size: images embedded at once, over all devices.
      view: what of an image the network is shown; None takes what `data` says.

    Raises:
      UserError: if images, classes or splits are missing, or there are too few images for the
        shots or neighbours asked for.
    """

    def __init__(
        self,
        config: TransferConfig,
        data: DataConfig,
        network: Network,
        *,
        batch_size: int,
        view: EvaluationView | None = None,
    ):
        self._data, self._view = data, view
        self._network = network
        self._batch_size = batch_size
        self._extract = FeatureExtractor(network)
        self.tasks = {
            f"{short_name(source)}/" if len(config.sources) > 1 else "": TransferTask(
                config, *_open(config, data, source, network.config.channels)
            )
            for source in config.sources or (None,)
        }
        """By what stands in the names of their metrics."""
        self.missing: frozenset[str] = frozenset()
        """Metrics of which the last call could say nothing."""

    def __call__(self, params: Params, frozen: Any = None) -> dict[str, float]:
        """Metrics such as `fewshot/5`, or `fewshot/NAME/5` if there are several sources.

        All processes must call it, and all get the same. Images without a label are left out, and
        so are all metrics where there is none with; both is said once.

        Raises:
          RunFailed: if an embedding is not finite, or too many images are corrupt.
          UserError: if there are too few images for what is asked for, of those that can be decoded
            and have a label.
        """
        del frozen
        mesh = self._network.placement.mesh
        size = max(self._network.config.image_shape[:2])

        def embed(source):
            loader = split_loader(
                source,
                self._data,
                mesh,
                size=size,
                batch_size=self._batch_size,
                view=self._view,
            )
            return self._extract(params, loader)

        found = {
            f"{kind}/{name}{metric}": value
            for name, task in self.tasks.items()
            for (kind, metric), value in task.evaluate(embed, mesh).items()
        }
        asked = {
            f"{kind}/{name}{metric}"
            for name, task in self.tasks.items()
            for kind, metric in task.metrics
        }
        self.missing = frozenset(asked - found.keys())
        return found


def _open(
    config: TransferConfig, data: DataConfig, source: str | None, channels: int
) -> tuple[Source, Source]:
    """Images to learn from and images to classify."""
    test_split = config.test_split or data.validation_split or data.test_split
    if test_split is None:
        raise UserError(
            "the evaluation of features needs images to classify, but the run has neither "
            "validation nor test split; give transfer.test_split"
        )
    data = dataclasses.replace(
        data,
        source=source or data.source,
        eval_source=None if source else data.eval_source,
        classes=config.classes or (() if source else data.classes),
        train_split=config.train_split or data.train_split,
        train_images=None if source or config.train_split else data.train_images,
        validation_split=test_split,
        test_split=None,
    )
    splits = data.open_splits(channels=channels)
    splits.check_labels("the evaluation of features", "transfer.sources or --source")
    return splits.train, splits.validation


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

    def __init__(self, config: TransferConfig, train: Source, test: Source):
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
