"""The images of a run: which splits there are or are drawn, and how the images look."""

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from distill.auto.choices import Choice
from distill.auto.layout import IN_CLASSES, Found
from distill.data import Source, open_source
from distill.data.sources import CorruptImage, abbreviate
from distill.data.sources.base import MissingSplit
from distill.data.sources.together import opened_together
from distill.errors import UserError
from distill.parallel.printed import say

# Of fewer images in all, what is held out is one split and not two.
SMALL = 1000
# So many images are looked at, for so many seconds at most.
_LOOKED_AT, _SECONDS = 300, 10.0
_HELD_OUT = {"validation": "validation_split", "test": "test_split"}
# Percent of the images to train on that are held out, too, until each class is.
_MORE = (0, 5, 10, 15, 20)
# Where nothing is named: in how many stripes a split is cut out of one whose classes follow each
# other.
_STRIPES = 10


@dataclasses.dataclass(frozen=True)
class Images:
    """The images of a run."""

    section: dict[str, Any]
    """The keys of `config.data`."""
    train: int
    """Images to train on."""
    held_out: int
    """To validate on."""
    class_names: tuple[str, ...]
    """Empty where images have no labels."""
    side: int
    """The median of the shorter sides, in pixels."""
    choices: tuple[Choice, ...]


def choose_images(found: Found, channels: int) -> Images:
    """Opens the data and chooses its splits.

    Args:
      found: what the user's words stand for.
      channels: 1 for grey or 3 for colour; images are converted.

    Raises:
      UserError: if there is nothing to train on, or hardly an image can be decoded.
    """
    with opened_together():
        opened = {
            split: source
            for split in ("train", "validation", "test")
            if (source := _opened(found.source, split, channels)) is not None
        }
        if "train" not in opened:
            named = abbreviate(found.splits) or "none"
            raise UserError(
                f"{found.source} has no split to train on; it has {named}. Name the folder train, "
                "or give the folder of classes itself"
            )
        whole = opened["train"]
        section, drawn = _splits(found, opened, channels)
        train = open_source(found.source, section["train_split"] or "train", channels=channels)
        held = section["validation_split"]
        held_out = 0 if held is None else len(open_source(found.source, held, channels=channels))
    seen = _look(train)
    section = {"source": found.source, **section, "max_corrupt_share": seen.allowed}
    return Images(
        section=section,
        train=len(train),
        held_out=held_out,
        class_names=whole.class_names,
        side=seen.side,
        choices=tuple(_said(found, train, section, held_out, drawn, seen)),
    )


def _opened(name: str, split: str, channels: int) -> Source | None:
    try:
        return open_source(name, split, channels=channels)
    except MissingSplit:
        return None
    except UserError as error:
        if split == "train":
            raise
        # Such as a competition's test images, which have no labels.
        say(f"auto: the {split} split is left out: {error}")
        return None


def _splits(
    found: Found, opened: dict[str, Source], channels: int
) -> tuple[dict[str, str | None], str]:
    """Names of the three splits, and how they come about."""
    train = opened["train"]
    chosen: dict[str, str | None] = dict(train_split="train", validation_split=None)
    chosen["test_split"] = None
    if not train.class_names:
        return chosen, "images without labels are all trained on; what is measured are new views"
    there = [split for split in _HELD_OUT if split in opened]
    if not there:
        ours, theirs, share = _cut(found.source, train, channels)
        chosen |= dict(train_split=ours, validation_split=theirs)
        return chosen, f"nothing is held out there, so {share}% are, always the same"
    total = sum(map(len, opened.values()))
    if found.layout == IN_CLASSES and total < SMALL:
        chosen |= _one_held_out(found.source, there, channels)
        return chosen, "drawn by a hash of the files' names; of so few, what is held out is one"
    chosen |= {_HELD_OUT[split]: split for split in there}
    if chosen["validation_split"] is None:
        chosen |= dict(validation_split="test", test_split=None)
        return chosen, "there is no validation split: test is looked at on the way"
    drawn = found.layout == IN_CLASSES
    return chosen, "drawn by a hash of the files' names" if drawn else "as they are there"


def _one_held_out(name: str, there: list[str], channels: int) -> dict[str, str | None]:
    """Splits of few images: as many more are held out as show each class."""
    drawn, found = "+".join(there), {}
    for percent in _MORE:
        more = f"train[:{percent}%]" if percent else ""
        found["validation_split"] = "+".join(filter(None, [more, drawn]))
        found["train_split"] = f"train[{percent}%:]" if percent else "train"
        held = open_source(name, found["validation_split"], channels=channels)
        if len(np.unique(held.labels)) == len(held.class_names):
            break
    return found


def _cut(name: str, source: Source, channels: int) -> tuple[str, str, int]:
    """Train and validation splits out of one, with all classes in either where that can be.

    Returns:
      Both, and how many percent are held out: more of few images, if that shows each class.
    """
    classes, few = len(np.unique(source.labels)), len(source) < SMALL
    share, seen = 20 if few else 10, []
    for more in _MORE if few else (0,):
        cut = 100 - share - more
        ours, theirs = f"train[:{cut}%]", f"train[{cut}%:]"
        seen.append(len(np.unique(open_source(name, theirs, channels=channels).labels)))
        if seen[-1] == classes:
            return ours, theirs, share + more
    if seen[0] >= 0.5 * classes:
        return f"train[:{100 - share}%]", f"train[{100 - share}%:]", share
    # Its classes follow each other.
    size, wide = len(source), max(len(source) // _STRIPES, 1)
    cuts = []
    for start in range(0, size, wide):
        end = min(start + wide, size)
        cuts.append((start, end - max((end - start) * share // 100, 1), end))
    return (
        "+".join(f"train[{start}:{cut}]" for start, cut, _ in cuts if cut > start),
        "+".join(f"train[{cut}:{end}]" for _, cut, end in cuts),
        share,
    )


@dataclasses.dataclass(frozen=True)
class _Seen:
    """What some of the images look like."""

    looked: int
    corrupt: tuple[str, ...]
    """Those that cannot be decoded."""
    side: int
    allowed: float
    """The share of images that may be corrupt before the run stops."""


def _look(source: Source) -> _Seen:
    """Decodes some of the images, evenly spread.

    Raises:
      UserError: if most of them cannot be.
    """
    corrupt: list[str] = []
    sides: list[int] = []
    began = time.monotonic()
    spread = np.linspace(0, len(source) - 1, min(_LOOKED_AT, len(source))).astype(int)
    looked = 0
    # In an order in which any beginning is spread evenly, too.
    for index in np.random.default_rng(0).permutation(spread).tolist():
        if looked and time.monotonic() - began > _SECONDS:
            break
        looked += 1
        try:
            sides.append(min(np.asarray(source.read(index)["image"]).shape[:2]))
        except CorruptImage:
            corrupt.append(source.describe(index))
    share = len(corrupt) / looked
    if share > 0.5:
        raise UserError(
            f"{len(corrupt)} of {looked} images that were looked at cannot be decoded, such as "
            f"{corrupt[0]}; repair the data"
        )
    # A single file of few is more than the share that a run allows by itself, and a file that is
    # looked at again counts again.
    allowed = max(0.1 if len(source) < SMALL else 0.01, round(2 * share, 3))
    return _Seen(looked, tuple(sorted(corrupt)), int(np.median(sides)), min(allowed, 1.0))


def _said(
    found: Found, train: Source, section: Any, held_out: int, drawn: str, seen: _Seen
) -> Iterator[Choice]:
    yield Choice("data", found.source, found.layout, ("data.source",))
    classes = f"{len(train.class_names)}" if train.class_names else "none"
    yield Choice("classes", classes, abbreviate(train.class_names) or "images without labels")
    test = "" if section["test_split"] is None else f", test: {section['test_split']}"
    shown = f"{len(train):,} to train, {held_out:,} to validate"
    splits = tuple(f"data.{key}" for key in ("train_split", *_HELD_OUT.values()))
    yield Choice("splits", shown + test, drawn, splits)
    if seen.corrupt:
        lost = f"{len(seen.corrupt)} of {seen.looked} looked at"
        first, *others = seen.corrupt
        why = f"left out, as any other that cannot be decoded: {first}"
        why += " and others" if others else ""
        yield Choice("unreadable", lost, why, ("data.max_corrupt_share",))
