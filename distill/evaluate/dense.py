"""What evaluations of frozen tokens have in common: images, how they are shown, what is learnt."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np

from distill.analysis.resizing import resize_nearest
from distill.analysis.segmentation import nested_fractions
from distill.analysis.windows import Window, WindowMean
from distill.bounds import Between, Images, Positive, Seed, Some, SomeShare
from distill.data import DataConfig, Source
from distill.data.sources import SourceName
from distill.data.sources.base import MissingSplit, count
from distill.data.spec import ArraySpec
from distill.dense_view import DenseView
from distill.errors import UserError, check_each_once
from distill.evaluate.dense_learning import (
    Learner,
    Learnt,
    LogisticLearner,
    NeighbourLearner,
    Probe,
    RidgeLearner,
)
from distill.evaluate.dense_pictures import DensePictures
from distill.evaluate.dense_tokens import DenseTokens, ImageTokens
from distill.evaluate.evaluation import EvaluationConfig, describe_images
from distill.nn import Params
from distill.subject import Subject

MOST_PICTURES = 16
"""That are kept with the figures of an evaluation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenseConfig(EvaluationConfig):
    """Which images, how a frozen model is shown them, and what is learnt of its tokens.

    Raises:
      ValueError: for values out of bounds.
    """

    source: SourceName | None = None
    """Such as `masks:PATH` or `depth:PATH`; None takes the run's own data."""
    train_split: str | None = None
    """Of images to learn from; None takes the run's train_split."""
    test_split: str | None = None
    """Of images to predict; None takes the run's validation split while training, its test split
    afterwards."""
    tokens: DenseView = DenseView()
    """How images are shown to the model, and which of its tokens stand for their parts."""
    probe: Probe = "ridge"
    """Ridge regression, in closed form; logistic regression, whose loss is that of a trained linear
    head; or neighbours, a vote of the most similar patches."""
    l2: Positive | None = None
    """Of ridge and logistic regression; None takes the penalty that is best on a tenth of the
    images to learn from."""
    neighbours: Some = 20
    """Patches that vote."""
    patches: Images = 200_000
    """The most that logistic regression and neighbours keep, evenly of the images."""
    fractions: tuple[SomeShare, ...] = (1.0,)
    """Of the images to learn from; each is part of all larger ones."""
    seed: Seed = 0
    """Of the order that fractions are cut from, and of the patches kept."""
    pictures: Annotated[int, Between(0, MOST_PICTURES)] = 4
    """Images, at equal distances, of which small pictures are kept with the figures for the pages
    of reports, and as many of those predicted worst; 0 keeps none."""

    needs_teachers: ClassVar[bool] = False
    of_views: ClassVar[bool] = False

    def __post_init__(self):
        super().__post_init__()
        check_each_once("fractions", self.fractions)
        if not self.fractions:
            raise ValueError("fractions are none; give some from above 0 to 1")

    @property
    def names_data(self) -> bool:
        """Whether it says itself on which images."""
        return self.source is not None and self.test_split is not None

    @property
    def unnamed(self) -> str:
        """The key by which it would, where it does not."""
        return "source" if self.source is None else "test_split"

    def learner(self, width: int, targets: int, images: int) -> Learner:
        """What learns.

        Args:
          width: of tokens.
          targets: numbers that are learnt of each patch.
          images: of which there are so many.
        """
        kept = {"most": max(-(-self.patches // max(images, 1)), 1), "seed": self.seed}
        if self.probe == "ridge":
            return RidgeLearner(width, targets, self.l2)
        if self.probe == "logistic":
            return LogisticLearner(width, targets, self.l2, **kept)
        return NeighbourLearner(self.neighbours, **kept)


TargetOf = Callable[[np.ndarray, tuple[int, int]], np.ndarray]
"""Maps what is known of pixels, [height, width], and a grid to what its patches are to be,
[rows, columns, C]."""

OutputsOf = Callable[[np.ndarray], np.ndarray]
"""Maps scores [rows, columns, C] of patches to what is predicted of them."""


class DenseImages(NamedTuple):
    """Images to learn from and to predict, with what is known of each pixel."""

    data: DataConfig
    train: Source
    test: Source
    train_split: str
    test_split: str
    array: str
    """The name of what is known of each pixel."""
    spec: ArraySpec
    """Of it."""


def open_dense(
    name: str,
    config: DenseConfig,
    subject: Subject,
    array: str,
    example: str,
    *,
    learns: bool = True,
) -> DenseImages | None:
    """Opens the images; None of a run that holds no split out.

    Args:
      name: of the evaluation.
      config: which images.
      subject: the model, and the run's images.
      array: the name of what is known of each pixel.
      example: a source that has it, for messages.
      learns: whether anything is learnt; else no images to learn from are looked for.

    Raises:
      UserError: if they are not there, or have no such array, or differ in what theirs is.
    """
    test_split = config.test_split or subject.split
    if test_split is None and config.source is None:
        return None
    if test_split is None:
        raise UserError(f"nothing says which split to predict; give config.evals.{name}.test_split")
    data = subject.data
    if config.source is not None:
        data = dataclasses.replace(data, eval_source=config.source, captions=None, classes=())
    train_split = (config.train_split or data.train_split) if learns else test_split
    channels = subject.network.config.channels
    train, test = (
        _opened(data, split, channels, f"config.evals.{name}.{key}")
        for key, split in (("train_split", train_split), ("test_split", test_split))
    )
    specs = [one.spec.get(array) for one in (train, test)]
    if specs[0] is None or specs[1] is None:
        held = ", ".join(train.spec)
        raise UserError(
            f"{data.evaluation_source} has {held} of its images, and no {array}; name a source "
            f"that has, such as config.evals.{name}.source={example}"
        )
    if specs[0] != specs[1]:
        raise UserError(
            f"{array} differs between {train_split} and {test_split} of {data.evaluation_source}: "
            f"{specs[0]}, {specs[1]}; expected the same classes in both"
        )
    return DenseImages(data, train, test, train_split, test_split, array, specs[0])


def _opened(data: DataConfig, split: str, channels: int, key: str) -> Source:
    try:
        return data.open_evaluation(split, channels=channels, labelled=False)
    except MissingSplit as error:
        raise UserError(f"{error}; {key} names another") from error


class DenseProbes:
    """Learns from images and predicts others, each as large as it is.

    Args:
      name: of the evaluation.
      config: what to learn of which tokens.
      subject: the model.
      images: to learn from and to predict.
      needs: what pixels have to have to be learnt from, for messages.
    """

    def __init__(
        self,
        name: str,
        config: DenseConfig,
        subject: Subject,
        images: DenseImages,
        *,
        needs: str,
    ):
        self._config, self._images, self._subject = config, images, subject
        self._name, self._needs = name, needs
        self._learnt_from: dict[float, int] = {}
        self._predicted = 0
        self.tokens = DenseTokens(
            subject.network,
            config.tokens,
            images.data,
            by=subject.view.filter,
            batch_size=subject.batch_size,
        )
        self.orders = nested_fractions(len(images.train), config.fractions, config.seed)
        """The images of each fraction."""
        remark = config.tokens.remark(self.tokens.side)
        self.remarks = (
            f"{images.train_split}, to learn from: {images.train.found}",
            f"{images.test_split}, to predict: {images.test.found}",
            self.tokens.described(),
            *([remark] if remark else []),
        )

    def may_find(self, figures: Iterable[str]) -> frozenset[str]:
        """Metrics that a call may find, of so many figures of an image, by each fraction."""
        penalty = () if self._config.probe == "neighbours" else ("l2",)
        values = dict.fromkeys((*figures, *penalty), 0.0)
        return frozenset(
            key
            for fraction in self._config.fractions
            for key in named(self._name, fraction, values)
        )

    def check_apart(self) -> None:
        """Checks that what is predicted is not what is learnt from.

        Raises:
          UserError: if it is.
        """
        images = self._images
        if images.train_split == images.test_split:
            raise UserError(
                f"{images.test_split} would be both learnt from and predicted; give another "
                f"config.evals.{self._name}.train_split or .test_split"
            )

    def learn(self, params: Params, targets: int, target_of: TargetOf) -> dict[float, Learnt]:
        """What is learnt from each fraction of the images.

        Args:
          params: of the model.
          targets: numbers that are learnt of each patch, C.
          target_of: makes an image's and a window's, [rows, columns, C].

        Raises:
          RunFailed: if too many images are corrupt, or a token is not finite.
          UserError: if a fraction holds nothing to learn from.
        """
        order = self.orders[max(self.orders)]
        learner = self._config.learner(self.tokens.width, targets, len(order))
        images = 0
        # Each fraction is learnt when all of its images have been seen.
        places = {int(index): place for place, index in enumerate(order)}
        pending = sorted(self.orders, reverse=True)
        found: dict[float, Learnt] = {}

        def learn_before(place: int) -> None:
            while pending and len(self.orders[pending[-1]]) <= place:
                self._check_learnable(images)
                self._learnt_from[pending[-1]] = images
                found[pending.pop()] = learner.learnt()

        for image in self.tokens(params, self._images.train, order, overlapping=False):
            learn_before(places[image.index])
            width = self.tokens.width
            known = resize_nearest(image.example[self._images.array], image.size)
            wanted = [
                target_of(_part(known, window), tokens.shape[:2]).reshape(-1, targets)
                for window, tokens in zip(image.windows, image.tokens, strict=True)
            ]
            tokens, each = (
                np.concatenate([one.reshape(-1, width) for one in image.tokens]),
                np.concatenate(wanted),
            )
            if not np.isnan(each).any(axis=1).all():
                learner.add(tokens, each)
                images += 1
        learn_before(len(order))
        return found

    def predict(
        self, params: Params, learnt: Mapping[float, Learnt], outputs: OutputsOf | None = None
    ) -> Iterator[tuple[ImageTokens, dict[float, np.ndarray]]]:
        """Each image to predict, and what each fraction's probe says of it, float32 [h, w, C].

        Args:
          params: of the model.
          learnt: by fraction.
          outputs: makes of scores [rows, columns, C] what is averaged over windows.
        """
        self._predicted = 0
        for image in self.tokens(params, self._images.test, overlapping=True):
            self._predicted += 1
            found = {}
            for fraction, one in learnt.items():
                mean = None
                for window, tokens in zip(image.windows, image.tokens, strict=True):
                    flat = one.scores(tokens.reshape(-1, tokens.shape[-1]))
                    scores = flat.reshape(*tokens.shape[:2], -1)
                    scores = scores if outputs is None else outputs(scores)
                    if len(image.windows) == 1:
                        break
                    mean = mean or WindowMean.empty(image.size, scores.shape[-1])
                    mean.add(window, scores, self.tokens.side)
                found[fraction] = scores if mean is None else mean.mean()
            yield image, found

    def _check_learnable(self, images: int) -> None:
        """Checks that there are images to learn from, and to hold out where a penalty is chosen.

        Raises:
          UserError: if there are not.
        """
        config = self._config
        chooses = config.l2 is None and config.probe != "neighbours"
        if images and (images > 1 or not chooses):
            return
        split, source = self._images.train_split, self._images.data.evaluation_source
        raise UserError(
            f"{images or 'no'} image{'' if images == 1 else 's'} of {source} {split} "
            f"{'has' if images == 1 else 'have'} {self._needs}; expected "
            + (
                f"two or more, as some are held out to choose the penalty, unless "
                f"config.evals.{self._name}.l2 says it (such as 0.1)"
                if images
                else "at least one to learn from"
            )
        )

    def predicted(self, also: str = "") -> str:
        """How many images were predicted last, for people.

        Args:
          also: what else is to be said of them.
        """
        images, total = self._images, len(self._images.test)
        left_out = total - self._predicted
        notes = [*([f"{left_out:,} that cannot be decoded left out"] if left_out else []), also]
        said = "; ".join(filter(None, notes))
        of = count(self._predicted, "image")
        return f"{of} of {images.data.evaluation_source}{f' ({said})' if said else ''}"

    def learnt_from(self) -> str:
        """How many images were learnt from last, for people; of fractions, of each."""
        counts = [f"{number:,}" for number in self._learnt_from.values()]
        plural = "" if counts == ["1"] else "s"
        return f"{', '.join(counts)} image{plural} to learn from"

    def pictures(self) -> DensePictures:
        """What takes in images to show."""
        return DensePictures(len(self._images.test), self._config.pictures, self.tokens.side)

    def about(self) -> dict[str, Any]:
        """The images, and how they are shown, as JSON can hold it."""
        images = self._images
        source = images.data.evaluation_source
        return {
            "data": [describe_images(images.test, source, images.test_split)],
            "learnt_from": [describe_images(images.train, source, images.train_split)],
            "view": {
                **self.tokens.shown(),
                "filter": self._subject.view.filter,
            },
        }


def named(name: str, fraction: float, figures: Mapping[str, float]) -> dict[str, float]:
    """Metrics by the evaluation's name, and the fraction of images where it is not all."""
    prefix = name if fraction == 1 else f"{name}/{fraction:g}"
    return {f"{prefix}/{key}": value for key, value in figures.items()}


def _part(array: np.ndarray, window: Window) -> np.ndarray:
    top, left, height, width = window
    return array[top : top + height, left : left + width]
