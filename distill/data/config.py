"""What a run reads and how, and the splits it opens."""

import dataclasses

from distill.data.sources import Source, abbreviate, open_source
from distill.data.subsets import ChosenClasses
from distill.data.views import ViewConfig
from distill.errors import UserError, check_each_once


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What a run reads and how.

    Raises:
      ValueError: for values out of bounds.
    """

    source: str = "digits"
    """`digits`, `folder:PATH` or `tfds:NAME`."""
    data_dir: str | None = None
    """Where TFDS keeps its data sets; None for its default."""
    classes: tuple[str, ...] = ()
    """Only images of these classes, numbered in this order; empty takes all."""
    train_split: str = "train"
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
        check_each_once("classes", self.classes)

    def open(self, split: str, *, channels: int) -> Source:
        """Opens one split.

        Raises:
          UserError: if there is no such source, split or class, or nothing in it.
        """
        source = open_source(self.source, split, channels=channels, data_dir=self.data_dir)
        if not self.classes:
            return source
        chosen = ChosenClasses(source, self.classes)
        if not len(chosen):
            raise UserError(
                f"split {split!r} of {self.source} holds no images of {abbreviate(self.classes)}"
            )
        return chosen

    def open_splits(self, *, channels: int) -> "Splits":
        """Opens all splits of a run.

        Raises:
          UserError: if one is missing or empty, or they do not have the same classes.
        """
        names = (self.train_split, self.validation_split, self.test_split)
        train, validation, test = (
            None if name is None else self.open(name, channels=channels) for name in names
        )
        for name, split in zip(names[1:], (validation, test), strict=True):
            if split is not None and split.class_names != train.class_names:
                raise UserError(
                    f"splits {self.train_split!r} and {name!r} of {self.source} have different "
                    f"classes: {_compare(train.class_names, split.class_names)}"
                )
        return Splits(train, validation, test)


@dataclasses.dataclass(frozen=True)
class Splits:
    """The images of a run."""

    train: Source
    validation: Source | None
    test: Source | None

    def check_classes(self, classes: int, whose: str) -> None:
        """Checks that a model distinguishes the classes of the data.

        Raises:
          UserError: if the counts differ.
        """
        if classes != len(self.train.class_names):
            raise UserError(
                f"{whose} has {classes} classes, but the data has {len(self.train.class_names)} "
                f"({abbreviate(self.train.class_names)})"
            )


def _compare(one: tuple[str, ...], other: tuple[str, ...]) -> str:
    if len(one) != len(other):
        return f"{len(one)} and {len(other)}"
    place, pair = next((i, p) for i, p in enumerate(zip(one, other, strict=True)) if p[0] != p[1])
    return f"class {place} is {pair[0]!r} in one and {pair[1]!r} in the other"
