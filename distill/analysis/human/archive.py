"""Trials that come with the project, in a compact file: those of people, and of two models.

A set's images are listed once. Of each observer there is what the order of the images was, and
what was answered after how long; nothing that a file of trials says is lost.
"""

import functools
import importlib.resources
import itertools
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distill.analysis.human.datasets import CATEGORIES, DATASETS, Dataset
from distill.analysis.human.trials import Trials

_PARTS_BEFORE_IMAGE = 6


def shipped_file(name: str) -> Path:
    """A file or folder beside this module."""
    return Path(str(importlib.resources.files("distill.analysis.human"))) / name


@functools.cache
def shipped_trials() -> tuple[Trials, ...]:
    """The trials that come with the project, by set and observer (data/PROVENANCE.md).

    85,120 of people, and 36,160 of two models to compare with, resnet50 and simclr_resnet50x1.
    """
    return tuple(read_archive(shipped_file("data/trials.npz")))


def stimuli() -> Path:
    """A folder of two sets' images, `edge/CATEGORY/NAME.png` and `silhouette/CATEGORY/NAME.png`.

    160 images of 224 × 224 pixels each (data/PROVENANCE.md), in the layout of the benchmark.
    """
    return shipped_file("stimuli")


def write_archive(file: Path, trials: Iterable[Trials]) -> None:
    """Writes trials to a compact file.

    Args:
      file: an .npz, compressed more tightly than NumPy does.
      trials: those of a set are with the same images under the same conditions, in one session
        that counts its trials from 1.

    Raises:
      ValueError: if they are anything else.
    """
    by_set = itertools.groupby(
        sorted(trials, key=lambda one: (one.dataset, not one.is_human, one.observer)),
        key=lambda one: one.dataset,
    )
    with zipfile.ZipFile(file, "w") as archive:
        for dataset, observers in by_set:
            for name, array in _packed(DATASETS[dataset], list(observers)).items():
                # The default date makes the same trials the same bytes.
                entry = zipfile.ZipInfo(f"{dataset}/{name}.npy")
                entry.compress_type = zipfile.ZIP_LZMA
                with archive.open(entry, "w") as out:
                    np.lib.format.write_array(out, np.asarray(array), allow_pickle=False)


def _packed(dataset: Dataset, observers: Sequence[Trials]) -> dict[str, np.ndarray]:
    """Of M observers and the K images of a set, arrays as `_unpacked` reads them."""
    about = [_about(dataset, one) for one in observers]
    shown = [_shown(dataset, one) for one in observers]
    images = sorted(shown[0])
    place = {image: number for number, image in enumerate(images)}
    order = np.array([[place.get(image, -1) for image in mine] for mine in shown], np.int16)
    conditions, categories, names = zip(*images, strict=True)
    packed = {
        "about": np.array(json.dumps(about)),
        "conditions": np.array(conditions, "S"),
        "categories": np.array(categories, np.int8),
        "images": np.array(names, "S"),
        "order": order,
        "answers": np.array([one.answers for one in observers]),
        "seconds": np.array([one.seconds for one in observers], np.float32),
    }
    for one, read in zip(observers, _unpacked(dataset, packed), strict=True):
        if any(not np.array_equal(*pair) for pair in _columns(one, read)):
            raise ValueError(f"{one.place()} are not what an archive can hold")
    return packed


def _columns(one: Trials, other: Trials) -> Iterator[tuple[Any, Any]]:
    for name in ("sessions", "numbers", "answers", "categories", "conditions", "images"):
        yield getattr(one, name), getattr(other, name)
    # As files of trials have them.
    yield tuple([f"{s:.15g}" for s in one.seconds]), tuple([f"{s:.15g}" for s in other.seconds])


def _about(dataset: Dataset, trials: Trials) -> dict[str, Any]:
    """What all trials of an observer share."""
    parts = trials.images[0].split("_")
    _, *named = parts if len(parts) > _PARTS_BEFORE_IMAGE else [None]
    return {
        "observer": trials.observer,
        # Of names such as 0001_cl_s01_cr_oven_40_n04111531_14126.png: cl_s01, 40.
        "named": [f"{named[0]}_{named[1]}", named[4]] if named else None,
        # Without conditions, files of people have 0 in their place and those of models NaN.
        "condition": None if dataset.parametric else trials.conditions[0],
    }


def _shown(dataset: Dataset, trials: Trials) -> list[tuple[str, int, str]]:
    """Of each trial the condition, the category, and the image's name without what varies."""
    return [
        (
            condition if dataset.parametric else dataset.condition(condition),
            int(category),
            name.split("_", _PARTS_BEFORE_IMAGE)[-1]
            if name.count("_") >= _PARTS_BEFORE_IMAGE
            else name,
        )
        for condition, category, name in zip(
            trials.conditions, trials.categories, trials.images, strict=True
        )
    ]


def read_archive(file: Path) -> Iterator[Trials]:
    """The trials that `write_archive` has written, by set and observer."""
    with np.load(file, allow_pickle=False) as arrays:
        for name, dataset in DATASETS.items():
            mine = [key for key in arrays if key.startswith(f"{name}/")]
            if mine:
                yield from _unpacked(dataset, {key.split("/")[1]: arrays[key] for key in mine})


def _unpacked(dataset: Dataset, arrays: Mapping[str, np.ndarray]) -> Iterator[Trials]:
    for row, about in enumerate(json.loads(str(arrays["about"]))):
        order = arrays["order"][row]
        numbers = np.arange(1, len(order) + 1)
        conditions = arrays["conditions"][order].astype(str).tolist()
        if about["condition"] is not None:
            conditions = [about["condition"]] * len(order)
        categories = arrays["categories"][order]
        images = arrays["images"][order].astype(str).tolist()
        if about["named"] is not None:
            code, number = about["named"]
            columns = zip(numbers.tolist(), conditions, categories.tolist(), images, strict=True)
            images = [
                f"{trial:04d}_{code}_{condition}_{CATEGORIES[category]}_{number}_{image}"
                for trial, condition, category, image in columns
            ]
        yield Trials(
            dataset=dataset.name,
            observer=about["observer"],
            sessions=np.ones_like(numbers),
            numbers=numbers,
            # float32 holds what was recorded, with 15 digits in decimals.
            seconds=arrays["seconds"][row].astype(np.float64),
            answers=arrays["answers"][row],
            categories=categories,
            conditions=tuple(conditions),
            images=tuple(images),
        )
