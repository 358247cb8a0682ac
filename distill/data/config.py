"""What a run reads and how, and the splits it opens."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from distill.bounds import Gibibytes, Images, Pixels, Share, Side, Threads, Workers, check_fields
from distill.config import how_it_runs
from distill.data.cache import cached
from distill.data.captions import Captioned
from distill.data.classes import (
    Names,
    among,
    calls,
    numbered,
    pairs,
    read_class_map,
    renamed,
)
from distill.data.fast import MAX_PIXELS, Decoder
from distill.data.labels import check_labels
from distill.data.mixture import Mixture, PartConfig, rare
from distill.data.sources import Source, SourceName, abbreviate, open_source
from distill.data.sources.base import EmptySplit
from distill.data.sources.together import opened_together
from distill.data.subsets import ChosenClasses, FewImages
from distill.data.tokens import Tokenizer
from distill.data.transforms import Shrunk
from distill.data.views import ViewConfig
from distill.errors import UserError, check_each_once
from distill.paths import IN_ORDER, AnyPath, CachePath, ClassMap
from distill.startup import STARTUP


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What a run reads and how.

    Raises:
      ValueError: for values out of bounds.
    """

    source: SourceName = "digits"
    """Such as `digits`, `folder:PATH`, `images:PATH`, `wds:PATH` or `tfds:NAME`, as docs/data.md
    lists them; only distillation can do without labels, which `images:PATH` has not."""
    mixture: dict[str, PartConfig] = dataclasses.field(default_factory=dict)
    """Sources to train on in place of `source`, by names of your own, in whose order they are."""
    eval_source: SourceName | None = None
    """Where validation and test splits come from; None takes `source`."""
    data_dir: AnyPath | None = how_it_runs(None)
    """Where TFDS keeps its data sets; None for its default."""
    classes: tuple[str, ...] = ()
    """Only images of these classes, numbered in this order; empty takes all."""
    class_map: ClassMap | None = None
    """A JSON file {class of the data: what to call it}, or `in_order`: other models' classes are
    the data's, one after the other, whatever they are called. None takes the data's own names."""
    train_split: str = "train"
    train_images: Images | None = None
    """Only so many images of `train_split`, always the same, spread evenly over the classes; None
    takes all."""
    validation_split: str | None = "validation"
    """Evaluated during training; None skips it."""
    test_split: str | None = "test"
    """Evaluated once, at the end; None skips it."""
    view: ViewConfig = ViewConfig()
    workers: Workers | None = how_it_runs(None)
    """Processes that decode; 0 decodes in threads. None takes, in a command, one for every four
    cores where there are at least eight, and 10,000 images; else 0."""
    threads: Threads | None = how_it_runs(None)
    """Threads that read and decode, in each process. None takes 4, of images in a bucket 32, as
    each of them is waited for."""
    decoder: Decoder = "fast"
    """What decodes JPEG files and resizes training views: `fast`, simplejpeg and OpenCV, or
    `pillow`. The pixels that files hold are the same, those of training views a little different;
    evaluation views are the same."""
    captions: Tokenizer | None = None
    """What makes tokens of the texts that go with images, an array `caption` of each batch: of an
    image's several texts, one is drawn each time. None reads none."""
    shrink: Side | None = None
    """Images are shrunk as they are read until their shorter side has so many pixels: a cache holds
    more of them, and their views are softer. None takes them as they are."""
    cache: CachePath | None = how_it_runs(None)
    """Where decoded images are kept, so that none is decoded twice: `ram`, shared by a run's
    processes, or a directory, which later runs share too. None decodes each time."""
    cache_gib: Gibibytes | None = how_it_runs(None)
    """The most that `cache` takes, in GiB; None for half of what is free there."""
    exif_orientation: bool = False
    """Whether images are turned as their EXIF orientation says; else they are taken as they are
    stored, as torchvision, timm and tf.data take them."""
    max_pixels: Pixels = MAX_PIXELS
    """Of an image, a mask or a video's frame: one that declares more counts as one that cannot be
    decoded. The default holds photographs of 67 megapixels, 201 MB each while it is cut."""
    max_corrupt_share: Share = 0.01
    """The run stops if more than this share of the images read cannot be decoded."""

    def __post_init__(self):
        check_fields(self)
        check_each_once("classes", self.classes)
        if not self.mixture:
            return
        if self.train_images is not None:
            raise ValueError(
                "train_images is of one source; with a mixture, slice its parts: "
                'mixture.NAME.split="train[:500]"'
            )
        if self.eval_source is None and (self.validation_split or self.test_split):
            raise ValueError(
                "eval_source is missing: with a mixture, it says what validation_split and "
                "test_split are of. Name it, or set both to none"
            )

    @property
    def evaluation_source(self) -> str:
        """Where validation and test splits come from."""
        return self.eval_source or self.source

    @property
    def in_order(self) -> bool:
        """Whether the user has said that the data's classes are those of models, in one order."""
        return self.class_map == IN_ORDER

    def open(self, split: str, *, channels: int) -> Source:
        """Opens one split of `source`.

        Raises:
          UserError: if there is no such source, split or class, or nothing in it.
        """
        return self._open(self.source, split, channels)

    def open_training(self, *, channels: int) -> Source:
        """Opens what is trained on, before `train_images` are taken of it.

        Args:
          channels: 1 for grey or 3 for colour; images are converted.

        Raises:
          UserError: as `open`; for parts of a mixture that do not go together.
        """
        if not self.mixture:
            return self.open(self.train_split, channels=channels)
        opened = {
            name: self._open(part.source, part.split or self.train_split, channels, mapped=False)
            for name, part in sorted(self.mixture.items())
        }
        return Mixture({name: (opened[name], self.mixture[name].weight) for name in opened})

    @property
    def training_source(self) -> str:
        """What is trained on, in words."""
        return " + ".join(p.source for p in self.mixture.values()) or self.source

    def open_evaluation(self, split: str, *, channels: int, labelled: bool = True) -> Source:
        """Opens one split to evaluate on.

        Args:
          split: of the evaluation's source.
          channels: 1 for grey or 3 for colour; images are converted.
          labelled: whether images without labels are an error, where captions are not read.

        Raises:
          UserError: if there is no such source, split or class, nothing in it, or no labels.
        """
        own = not self.mixture and self.eval_source in (None, self.source)
        images = self._open(self.evaluation_source, split, channels, mapped=own)
        if labelled and not images.class_names and self.captions is None:
            raise UserError(
                f"{self.evaluation_source} has no labels to evaluate against; name labelled data"
            )
        return images

    def _open(self, name: str, split: str, channels: int, *, mapped: bool = True) -> Source:
        """Opens a split; `mapped` is whether `class_map` has to know one of its classes."""
        source = open_source(
            name,
            split,
            channels=channels,
            data_dir=self.data_dir,
            exif_orientation=self.exif_orientation,
            decoder=self.decoder,
            max_pixels=self.max_pixels,
            captions=self.captions is not None,
        )
        if self.shrink:
            source = Shrunk(source, self.shrink, self.decoder)
        if self.cache:
            decoding = self.exif_orientation, self.max_pixels
            source = cached(source, self.cache, self.cache_gib, *decoding)
        if self.captions:
            source = Captioned(source, self.captions)
        if self.class_map not in (None, IN_ORDER) and source.class_names:
            names = read_class_map(Path(self.class_map))
            # One map may be for the names of both.
            strict = not self.mixture and self.eval_source in (None, self.source)
            if mapped or not names.keys().isdisjoint(source.class_names):
                source = renamed(source, names, strict=strict)
        if not self.classes:
            return source
        chosen = ChosenClasses(source, self.classes)
        if not len(chosen):
            raise UserError(
                f"split {split!r} of {name} holds no images of {abbreviate(self.classes)}"
            )
        return chosen

    @STARTUP.during("data")
    def open_splits(self, *, channels: int, labelled: bool = True) -> "Splits":
        """Opens all splits of a run.

        Args:
          channels: 1 for grey or 3 for colour; images are converted.
          labelled: whether images to evaluate on without labels are an error.

        Raises:
          UserError: if one is missing or empty, there are fewer images to train on than asked for,
            or those to evaluate on have no labels, or classes that the first of them does not have.
        """
        with opened_together():
            splits = self._all_splits(channels, labelled)
        places = {
            "train": f"split {self.train_split!r} of {self.training_source}",
            "validation": f"split {self.validation_split!r} of {self.evaluation_source}",
            "test": f"split {self.test_split!r} of {self.evaluation_source}",
        }
        first = next((name for name, source in splits.opened.items() if source.class_names), None)
        if first is None:
            return splits
        model, whose = splits.opened[first].class_names, places[first]
        return splits.numbered(model, whose, in_order=self.in_order, places=places)

    def _all_splits(self, channels: int, labelled: bool) -> "Splits":
        try:
            train = self.open_training(channels=channels)
        except EmptySplit as error:
            raise EmptySplit(
                f"{error}. There is nothing to train on: name other data, or in "
                "config.data.train_split another part of it"
            ) from error
        if self.train_images is not None:
            train = FewImages(train, self.train_images)
        held_out = [
            self._open_held_out(key, channels, labelled)
            for key in ("validation_split", "test_split")
        ]
        return Splits(train, *held_out)

    def _open_held_out(self, key: str, channels: int, labelled: bool) -> Source | None:
        split = getattr(self, key)
        try:
            if not split:
                return None
            return self.open_evaluation(split, channels=channels, labelled=labelled)
        except EmptySplit as error:
            raise EmptySplit(
                f"{error}. A run does without images to evaluate on: config.data.{key}=none"
            ) from error


@dataclasses.dataclass(frozen=True)
class Splits:
    """The images of a run."""

    train: Source
    validation: Source | None
    test: Source | None

    @property
    def opened(self) -> dict[str, Source]:
        """Those that there are, by name."""
        return {name: source for name, source in vars(self).items() if source is not None}

    @property
    def class_names(self) -> Names:
        """Those of the first split that has labels; empty if none has."""
        return next((s.class_names for s in self.opened.values() if s.class_names), ())

    def numbered(
        self,
        model: Names,
        whose: str,
        *,
        in_order: bool = False,
        places: Mapping[str, str] = {},
    ) -> "Splits":
        """The images with the numbers that a model gives their classes; see `classes.numbered`.

        Args:
          model: the names of the model's classes, in the order of its logits.
          whose: what messages call the model.
          in_order: whether the user has said that classes of other names are in the model's order.
          places: what messages call splits, by name.

        Raises:
          UserError: for classes that the model does not have.
        """
        found = {
            name: numbered(
                source,
                model,
                shown=places.get(name, f"the {name} data"),
                whose=whose,
                in_order=in_order,
            )
            for name, source in self.opened.items()
        }
        return dataclasses.replace(self, **found)

    def remarks(self) -> Iterator[str]:
        """What is odd about the images and their classes, and not wrong."""
        names = self.class_names
        yield from rare(self.train)
        if len(names) == 1:
            yield f"the data has one class only, {names[0]!r}: there is nothing to tell apart"
        for split, source in self.opened.items():
            if called := calls(source):
                yield f"classes of the {split} data are taken for others: {pairs(called)}"
            if some := among(source):
                lacking = tuple(name for n, name in enumerate(names) if n not in {*some})
                then = "" if split == "train" else "; it is evaluated among those it has"
                yield (
                    f"the {split} data has {len(some)} of the {len(names)} classes and lacks "
                    f"{abbreviate(lacking)}{then}"
                )

    def record(self) -> dict[str, dict[str, Any]]:
        """What a run that comes back has to find again: of each split, its size and fingerprint."""
        return {
            name: {"images": len(source), "fingerprint": source.fingerprint}
            for name, source in self.opened.items()
        }

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
