"""Evaluations of frozen features: few-shot regression, nearest neighbours, linear probe."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar, Literal

from distill.bounds import Positive, Seed, Some
from distill.data import DataConfig, Source
from distill.data.sources import SourceName
from distill.errors import UserError, check_each_once
from distill.evaluate.evaluation import EvaluationConfig, describe_images
from distill.evaluate.features import FeatureExtractor, split_loader
from distill.evaluate.transfer_task import TransferTask
from distill.evaluation_view import EvaluationView
from distill.nn import Params, VisionNetwork
from distill.subject import Subject

SHORT_FORM = "transfer"
"""What the evaluation is called that config.transfer stands for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferConfig(EvaluationConfig):
    """What to measure of frozen features, and on which images.

    Raises:
      ValueError: for values out of bounds, or if nothing is asked for.
    """

    kind: Literal["transfer"] = "transfer"
    sources: tuple[SourceName, ...] = ()
    """Such as `digits`, `folder:PATH` or `tfds:NAME`; empty takes the run's own data."""
    classes: tuple[str, ...] = ()
    """Only images of these classes; empty takes all, and of the run's own data its classes."""
    train_split: str | None = None
    """Of shots, neighbours and the probe's training images; None takes the run's train_split, of
    the run's own data only its train_images."""
    test_split: str | None = None
    """Classified; None takes the run's validation split while training, or its test split if there
    is none, and its test split afterwards."""
    shots: tuple[Some, ...] = (1, 5, 10, 25)
    """Images per class of few-shot linear regression; empty skips it."""
    seeds: tuple[Seed, ...] = (0, 1, 2)
    """Each draws other shots."""
    l2: Positive = 2.0**10
    """Ridge penalty of few-shot regression."""
    neighbours: tuple[Some, ...] = ()
    """Neighbours that vote, such as 20; empty skips it."""
    probe: bool = False
    """Logistic regression on all training images."""

    needs_teachers: ClassVar[bool] = False

    def __post_init__(self):
        super().__post_init__()
        for name in ("sources", "classes", "shots", "seeds", "neighbours"):
            check_each_once(name, getattr(self, name))
        if len(set(map(short_name, self.sources))) < len(self.sources):
            raise ValueError(
                f"sources must differ in their last parts, which metrics go by, not {self.sources}"
            )
        if self.shots and not self.seeds:
            raise ValueError("seeds are none; give one or more, from which shots are drawn")
        if not (self.shots or self.neighbours or self.probe):
            raise ValueError("nothing to evaluate; give shots, neighbours or probe")

    @property
    def names_data(self) -> bool:
        """Whether it says itself on which images."""
        return bool(self.sources)

    def heads(self, name: str) -> tuple[str, ...]:
        """The kinds of classifiers; `name` comes after them."""
        del name
        return ("fewshot", "knn", "probe")

    def build(self, name: str, subject: Subject) -> "TransferEvaluator":
        """Metrics such as `fewshot/5`, or `fewshot/NAME/5` under another name than `transfer`."""
        config = self
        if self.test_split is None and subject.split is not None:
            config = dataclasses.replace(self, test_split=subject.split)
        return TransferEvaluator(
            config,
            subject.data,
            subject.network,
            batch_size=subject.batch_size,
            view=subject.view,
            prefix="" if name == SHORT_FORM else f"{name}/",
        )


def short_name(source: str) -> str:
    """What metrics call a source: `folder:/data/flowers` is `flowers`."""
    kind, _, argument = source.partition(":")
    if kind == "folder":
        return Path(argument).name
    return argument.partition(":")[0].replace("/", "_") or kind.partition("?")[0]


class TransferEvaluator:
    """Evaluates the features of `network` as a `TransferConfig` asks.

    Args:
      config: what to measure.
      data: the run's own data; also says how images of other sources are read and viewed.
      network: placed on the mesh to compute on.
      batch_size: images embedded at once, over all devices.
      view: what of an image the network is shown; None takes what `data` says.
      prefix: of what stands in the names of metrics after their kind.

    Raises:
      UserError: if images, classes or splits are missing, or there are too few images for the
        shots or neighbours asked for.
    """

    def __init__(
        self,
        config: TransferConfig,
        data: DataConfig,
        network: VisionNetwork,
        *,
        batch_size: int,
        view: EvaluationView | None = None,
        prefix: str = "",
    ):
        self._config, self._data = config, data
        self._view = data.view.evaluation if view is None else view
        self._network = network
        self._batch_size = batch_size
        self._extract = FeatureExtractor(network)
        self.tasks = {
            prefix + _infix(config, source): TransferTask(
                config, *_open(config, data, source, network.config.channels)
            )
            for source in config.sources or (None,)
        }
        """By what stands in the names of their metrics."""
        self.missing: frozenset[str] = frozenset()
        """Metrics of which the last call could say nothing."""
        self.remarks: tuple[str, ...] = ()

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
        mesh = self._network.mesh
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
        self.missing = self.metrics(params) - found.keys()
        return found

    def metrics(self, params: Params, frozen: Any = None) -> frozenset[str]:
        """What a call may find."""
        del params, frozen
        return frozenset(
            f"{kind}/{name}{metric}"
            for name, task in self.tasks.items()
            for kind, metric in task.metrics
        )

    @property
    def _sources(self) -> tuple[str, ...]:
        return self._config.sources or (self._data.evaluation_source,)

    def seen(self) -> list[str]:
        """How many images of each source the last call has classified, and learnt from."""
        return [
            f"{task.counted.test:,} images of {name}, {len(task.test.class_names)} classes; "
            f"{task.counted.train:,} images to learn from"
            for name, task in zip(self._sources, self.tasks.values(), strict=True)
            if task.counted.test
        ]

    def about(self) -> dict[str, Any]:
        """The images to classify and to learn from, and how they are shown."""
        pairs = list(zip(self._sources, self.tasks.values(), strict=True))
        test, train = _split(self._config, self._data), self._config.train_split
        return {
            "data": [describe_images(task.test, name, test) for name, task in pairs],
            "learnt_from": [
                describe_images(task.train, name, train or self._data.train_split)
                for name, task in pairs
            ],
            "view": dataclasses.asdict(self._view),
            "among": list(self._config.classes) or None,
        }


def _split(config: TransferConfig, data: DataConfig) -> str:
    """The split to classify.

    Raises:
      UserError: if nothing says which.
    """
    split = config.test_split or data.validation_split or data.test_split
    if split is None:
        raise UserError(
            "the evaluation of features needs images to classify, but the run has neither "
            "validation nor test split; give transfer.test_split"
        )
    return split


def _infix(config: TransferConfig, source: str | None) -> str:
    return f"{short_name(source)}/" if source and len(config.sources) > 1 else ""


def _open(
    config: TransferConfig, data: DataConfig, source: str | None, channels: int
) -> tuple[Source, Source]:
    """Images to learn from and images to classify."""
    test_split = _split(config, data)
    data = dataclasses.replace(
        data,
        source=source or data.source,
        eval_source=None if source else data.eval_source,
        classes=config.classes or (() if source else data.classes),
        train_split=config.train_split or data.train_split,
        train_images=None if source or config.train_split else data.train_images,
        mixture={} if source or config.train_split else data.mixture,
        captions=None,
        validation_split=test_split,
        test_split=None,
    )
    splits = data.open_splits(channels=channels)
    splits.check_labels("the evaluation of features", "transfer.sources or --source")
    assert splits.validation is not None
    return splits.train, splits.validation
