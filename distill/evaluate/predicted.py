"""Evaluations of what a model predicts: arithmetic on the scores of all images.

They are the same of a model that runs and of a file of predictions (`distill.analysis`). A kind is
a dataclass below `PredictionsConfig` with its own `kind`, and `measure`.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from distill.analysis.predictions import Predictions
from distill.data import Source, Subset
from distill.data.classes import among
from distill.data.examples import Altered
from distill.data.sources import attributes_of
from distill.errors import RunFailed, UserError
from distill.evaluate.evaluation import describe_images, said_classes
from distill.evaluate.features import split_loader
from distill.evaluate.images import open_any, open_images
from distill.evaluate.of_images import OfImagesConfig, Shown
from distill.evaluate.outputs import Outputs, Rows
from distill.nn import PairNetwork, Params
from distill.subject import Subject


class Measured(NamedTuple):
    """What predictions show."""

    figures: Mapping[str, float | None]
    """By name; None of which nothing can be said."""
    lines: tuple[str, ...] = ()
    """What a person has to know beside them."""
    details: Mapping[str, Any] = {}
    """What plots are drawn of, and counts behind figures; as JSON can hold it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictionsConfig(OfImagesConfig):
    """What to make of predictions, and on which images a model makes them."""

    needs_teachers: ClassVar[bool] = False
    by_the_models_classes: ClassVar[bool] = True
    """Whether images have classes of the model, among which alone it chooses; else they need none,
    and those of other names have the label −1."""

    @property
    def figures(self) -> tuple[str, ...] | None:
        """What may be found, by name, with `*` for what images say; None where nothing tells."""
        return None

    def measure(self, predictions: Predictions) -> Measured:
        """What predictions show.

        Raises:
          UserError: if they lack what is measured.
        """
        raise NotImplementedError

    def build(self, name: str, subject: Subject) -> "PredictedEvaluation | None":
        """Metrics named `NAME/FIGURE`; None of a run that holds no split out."""
        shown = self.shown(name, subject)
        return shown and PredictedEvaluation(name, self, self.predictor(subject, shown))

    def predictor(self, subject: Subject, shown: Shown) -> "Predicting":
        """What predicts the classes of the images.

        Raises:
          UserError: if images, classes or splits are missing, or the model's are others.
        """
        return Predictor(subject, shown, numbered=self.by_the_models_classes)


class Predicting(Protocol):
    """Says of images what is measured."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is to be said of the images before it is called."""
        ...

    def predictions(self, params: Params) -> Predictions:
        """Of all images; all processes must call it, and all get the same."""
        ...

    def about(self) -> dict[str, Any]:
        """The images, those to measure first among `data`, and how they are shown."""
        ...


class Predictor:
    """Predicts the classes of all images of a split.

    Args:
      subject: the model.
      shown: the images, and how they are shown.
      numbered: whether images have classes of the model, among which alone it chooses; else those
        that have no class of its have the label −1.

    Raises:
      UserError: if images, classes or splits are missing, or the model's are others.
    """

    def __init__(self, subject: Subject, shown: Shown, *, numbered: bool):
        if not subject.network.config.num_classes:
            ways = "evaluations of kind transfer ask for features alone"
            if isinstance(subject.network, PairNetwork):
                ways = f"name some, --zeroshot_classes, or measure it by texts; {ways}"
            raise UserError(f"the model in {subject.place} has no classes to predict; {ways}")
        self._subject, self._shown = subject, shown
        opened = open_images if numbered else open_any
        self.images, self.remarks = opened(subject, shown.data, shown.split)
        self._outputs = Outputs(subject.network, "logits")
        names = subject.class_names or self.images.class_names
        count = subject.network.config.num_classes
        self.class_names = names if len(names) == count else tuple(map(str, range(count)))
        """Of all classes of the model."""
        self.among = among(self.images) if numbered else None
        """Those that the images have, by number; None is all."""

    def rows(
        self, params: Params, start: int = 0, *, altered: Altered | None = None
    ) -> Iterator[Rows]:
        """Logits of all classes, batch by batch.

        Args:
          params: of the model.
          start: the place in the source of the first image.
          altered: makes of a view, and its number, the view that is shown.

        Raises:
          RunFailed: if logits are not finite, or too many images are corrupt.
        """
        subject, shown = self._subject, self._shown
        loader = split_loader(
            Subset(self.images, np.arange(start, len(self.images))) if start else self.images,
            shown.data,
            subject.mesh,
            size=max(subject.network.config.image_shape[:2]),
            batch_size=subject.batch_size,
            view=shown.view,
            altered=altered,
        )
        for rows in self._outputs(params, loader):
            sound = np.isfinite(rows.values).all(axis=1)
            index = rows.index + start
            if not sound.all():
                first = self.images.describe(int(index[np.argmin(sound)]))
                raise RunFailed(f"the logits of {first} are not finite; check the model")
            yield rows._replace(index=index)

    def columns(self, rows: Rows) -> dict[str, np.ndarray]:
        """What is known of the images of some rows: `name`, `label` and, by name, `class`.

        And what else their source says of them.
        """
        described = known_of(self.images, rows.index)
        described["label"] = rows.label.astype(np.int64)
        names = self.images.class_names
        if names and names != self.class_names:
            described["class"] = np.array([*names, ""])[rows.label]
            described["label"] = self._by_name(names)[rows.label]
        return described

    def _by_name(self, names: tuple[str, ...]) -> np.ndarray:
        """The model's number of each class; −1 of none, and of those that it lacks or has twice."""
        times = Counter(self.class_names)
        number = {name: n for n, name in enumerate(self.class_names) if times[name] == 1}
        return np.array([*(number.get(name, -1) for name in names), -1], np.int64)

    def predictions(self, params: Params, *, altered: Altered | None = None) -> Predictions:
        """Of all images, in the classes among which the model chooses; see `rows`."""
        parts, columns = [], []
        for rows in self.rows(params, altered=altered):
            parts.append(rows.values)
            columns.append(self.columns(rows))
        joined = joined_columns(columns)
        scores = np.concatenate(parts)
        found = Predictions(
            scores=scores,
            class_names=self.class_names,
            labels=joined.pop("label"),
            names=joined.pop("name"),
            columns=joined,
            about=self.about(),
        )
        return found if self.among is None else found.among(self.among)

    def about(self) -> dict[str, Any]:
        """The images and how they are shown, as JSON can hold it."""
        source, split = self._shown.data.evaluation_source, self._shown.split
        called = said_classes(self._shown.data.class_map)
        return ({"class_map": called} if called else {}) | {
            "data": [describe_images(self.images, source, split)],
            "view": dataclasses.asdict(self._shown.view),
            "among": None if self.among is None else [self.class_names[n] for n in self.among],
        }


def known_of(images: Source, index: np.ndarray) -> dict[str, np.ndarray]:
    """The names of some images, and what else their source says of them, arrays [n] by name."""
    said = [attributes_of(images, int(one)) for one in index]
    columns = {name: np.array([one[name] for one in said]) for name in (said[0] if said else ())}
    return columns | {"name": np.array([images.name(int(one)) for one in index], dtype=str)}


def joined_columns(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The columns that all parts have, one part after another."""
    names = [name for name in parts[0] if all(name in one for one in parts)]
    return {name: np.concatenate([one[name] for one in parts]) for name in names}


class PredictedEvaluation:
    """A model's predictions, measured.

    Args:
      name: prefix of the metrics.
      config: what to make of them.
      predictor: the model and the images.
    """

    def __init__(self, name: str, config: PredictionsConfig, predictor: Predicting):
        self.missing: frozenset[str] = frozenset()
        """Figures of which the last call could say nothing, as `name/figure`."""
        self.remarks = predictor.remarks
        self._name, self._config, self._predictor = name, config, predictor
        self._counted = 0
        self._measured = Measured({})

    def __call__(self, params: Params, frozen: Any = None) -> dict[str, float]:
        """The figures as `name/figure`; all processes must call it, and all get the same.

        Raises:
          RunFailed: if logits are not finite, or too many images are corrupt.
          UserError: if predictions lack what is measured.
        """
        del frozen
        predictions = self._predictor.predictions(params)
        self._counted = len(predictions)
        self._measured = self._config.measure(predictions)
        found = named(self._name, self._measured)
        self.missing = frozenset(name for name, value in found.items() if value is None)
        return {name: value for name, value in found.items() if value is not None}

    def metrics(self, params: Params, frozen: Any = None) -> frozenset[str] | None:
        """What a call may find; None where that depends on the images."""
        del params, frozen
        figures = self._config.figures
        if figures is None:
            return None
        return frozenset(f"{self._name}/{figure}" for figure in figures)

    def seen(self) -> list[str]:
        """How many images the last call has seen, and what else is to be known."""
        source = self._predictor.about()["data"][0]["source"]
        return [f"{self._counted:,} images of {source}", *self._measured.lines]

    def about(self) -> dict[str, Any]:
        """The images, how they are shown, and what is behind the last call's figures."""
        return self._predictor.about() | {"details": dict(self._measured.details)}


def named(name: str, measured: Measured) -> dict[str, float | None]:
    """The figures as `name/figure`."""
    return {f"{name}/{figure}": value for figure, value in measured.figures.items()}
