"""What a run reads and how, and the splits it opens."""

import dataclasses

from distill.data.labels import check_labels
from distill.data.sources import Source, abbreviate, open_source
from distill.data.subsets import ChosenClasses, FewImages
from distill.data.views import ViewConfig
from distill.errors import UserError, check_each_once


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What a run reads and how.

    Raises:
      ValueError: for values out of bounds.
    """

    source: str = "digits"
    """`digits`, `folder:PATH`, `images:PATH` or `tfds:NAME`; only distillation can do without
    labels, which `images:PATH` has not."""
    eval_source: str | None = None
    """Where validation and test splits come from; None takes `source`."""
    data_dir: str | None = None
    """Where TFDS keeps its data sets; None for its default."""
    classes: tuple[str, ...] = ()
    """Only images of these classes, numbered in this order; empty takes all."""
    train_split: str = "train"
    train_images: int | None = None
    """Only so many images of `train_split`, always the same, spread evenly over the classes; None
    takes all."""
    validation_split: str | None = "validation"
    """Evaluated during training; None skips it."""
    test_split: str | None = "test"
    """Evaluated once, at the end; None skips it."""
    view: ViewConfig = ViewConfig()
    workers: int = 0
    """Processes that decode; 0 decodes in threads."""
    threads: int = 4
    """Threads that decode, in each process."""
    max_corrupt_share: float = 0.01
    """The run stops if more than this share of the images read cannot be decoded."""

    def __post_init__(self):
        if self.workers < 0 or self.threads < 1:
            raise ValueError(
                f"workers must be 0 or more and threads 1 or more, not {self.workers} and "
                f"{self.threads}"
            )
        if not 0 <= self.max_corrupt_share <= 1:
            raise ValueError(f"max_corrupt_share must be in [0, 1], not {self.max_corrupt_share}")
        if self.train_images is not None and self.train_images < 1:
            raise ValueError(f"train_images must be 1 or more, not {self.train_images}")
        check_each_once("classes", self.classes)

    @property
    def evaluation_source(self) -> str:
        """Where validation and test splits come from."""
        return self.eval_source or self.source

    def open(self, split: str, *, channels: int) -> Source:
        """Opens one split of `source`.

        Raises:
          UserError: if there is no such source, split or class, or nothing in it.
        """
        return self._open(self.source, split, channels)

    def open_evaluation(self, split: str, *, channels: int) -> Source:
        """Opens one split to evaluate on.

        Raises:
          UserError: if there is no such source, split or class, nothing in it, or no labels.
        """
        images = self._open(self.evaluation_source, split, channels)
        if not images.class_names:
            raise UserError(
                f"{self.evaluation_source} has no labels to evaluate against; name labelled data"
            )
        return images

    def _open(self, name: str, split: str, channels: int) -> Source:
        source = open_source(name, split, channels=channels, data_dir=self.data_dir)
        if not self.classes:
            return source
        chosen = ChosenClasses(source, self.classes)
        if not len(chosen):
            raise UserError(
                f"split {split!r} of {name} holds no images of {abbreviate(self.classes)}"
            )
        return chosen

    def open_splits(self, *, channels: int) -> "Splits":
        """Opens all splits of a run.

        Raises:
          UserError: if one is missing or empty, there are fewer images to train on than asked for,
            those to evaluate on have no labels, or those with labels do not have the same classes.
        """
        train = self.open(self.train_split, channels=channels)
        if self.train_images is not None:
            train = FewImages(train, self.train_images)
        opened = [(self.source, self.train_split, train)]
        for name in (self.validation_split, self.test_split):
            split = None if name is None else self.open_evaluation(name, channels=channels)
            opened.append((self.evaluation_source, name, split))
        _check_same_classes([place for place in opened if place[2] and place[2].class_names])
        return Splits(*(split for _, _, split in opened))


@dataclasses.dataclass(frozen=True)
class Splits:
    """The images of a run."""

    train: Source
    validation: Source | None
    test: Source | None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Those of all splits that have labels; empty if none has."""
        splits = (self.train, self.validation, self.test)
        return next((s.class_names for s in splits if s is not None and s.class_names), ())

    def check_classes(self, classes: int, whose: str) -> None:
        """Checks that a model distinguishes the classes of the data, if any of it has labels.

        Raises:
          UserError: if the counts differ.
        """
        names = self.class_names
        if names and classes != len(names):
            raise UserError(
                f"{whose} has {classes} classes, but the data has {len(names)} "
                f"({abbreviate(names)})"
            )

    def check_labels(self, purpose: str, key: str = "config.data.source") -> None:
        """Checks that there are labels to learn from.

        Args:
          purpose: what needs them, for the error.
          key: where labelled data is named, for the error.

        Raises:
          UserError: if there are none.
        """
        if not self.train.class_names:
            raise UserError(
                f"{purpose} learns from labels, but the training images have none; name labelled "
                f"data in {key}"
            )

    def check_all_labelled(self, purpose: str, key: str = "config.data.source") -> None:
        """Checks that training images have labels, as far as `distill.data.labels` looks.

        Args:
          purpose: what needs them, for the error.
          key: where labelled data is named, for the error.

        Raises:
          UserError: if there are none, or one is missing.
        """
        self.check_labels(purpose, key)
        check_labels(self.train, purpose)


def _check_same_classes(labelled: list[tuple[str, str, Source]]) -> None:
    """Of (source's name, split's name, images), all that have labels."""
    for source, name, split in labelled[1:]:
        first_source, first_name, first = labelled[0]
        if split.class_names != first.class_names:
            raise UserError(
                f"splits {first_name!r} of {first_source} and {name!r} of {source} have different "
                f"classes: {_compare(first.class_names, split.class_names)}"
            )


def _compare(one: tuple[str, ...], other: tuple[str, ...]) -> str:
    if len(one) != len(other):
        return f"{len(one)} and {len(other)}"
    place, pair = next((i, p) for i, p in enumerate(zip(one, other, strict=True)) if p[0] != p[1])
    return f"class {place} is {pair[0]!r} in one and {pair[1]!r} in the other"
