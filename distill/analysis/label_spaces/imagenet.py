"""ImageNet's validation images under their first labels, and under those of ReaL."""

import functools
import re

from distill.analysis.label_spaces.data_files import (
    imagenet_numbers,
    read_data,
    read_lines,
)
from distill.analysis.label_spaces.label_space import NoClass, wnid_folder
from distill.analysis.label_spaces.wordnet_folders import by_folder, of_imagenets_classes

_FILE = re.compile(r"ILSVRC2012_val_(\d{8})(?!\d)")


@functools.cache
def validation_labels() -> tuple[int, ...]:
    """The class of ILSVRC2012_val_00000001.JPEG and the 49,999 others, in that order."""
    numbers = imagenet_numbers()
    return tuple(numbers[wnid] for wnid in read_lines("imagenet2012_validation_labels.txt.gz"))


@functools.cache
def real_labels() -> tuple[tuple[int, ...], ...]:
    """The classes that are seen in the same images, in the same order; of 3,163 there are none.

    Beyer et al., "Are we done with ImageNet?", arXiv 2006.07159.
    """
    return tuple(tuple(labels) for labels in read_data("imagenet_real.json.gz"))


def validation_position(name: str) -> int | None:
    """Which of ImageNet's validation images a file's name says, from 0; None if it says none.

    Raises:
      ValueError: if there is no validation image of that number.
    """
    found = _FILE.match(name.rpartition("/")[2])
    if found is None:
        return None
    number, count = int(found[1]), len(validation_labels())
    if not 1 <= number <= count:
        raise ValueError(f"its number is {number}; validation images are 1 to {count}")
    return number - 1


def _first_label(name: str) -> tuple[int]:
    position = validation_position(name)
    if position is None:
        try:
            return by_folder(imagenet_numbers(), name)
        except NoClass as error:
            raise NoClass(f"{error}, or called ILSVRC2012_val_00000001.JPEG") from error
    label = validation_labels()[position]
    if wnid_folder(name) is not None and by_folder(imagenet_numbers(), name) != (label,):
        raise ValueError(
            f"its folder is {wnid_folder(name)}, but that validation image is of "
            f"{list(imagenet_numbers())[label]}; the images are in wrong folders"
        )
    return (label,)


def _seen(name: str) -> tuple[int, ...]:
    position = validation_position(name)
    if position is None:
        raise NoClass(
            "ReaL knows images by name alone; expected a name such as ILSVRC2012_val_00000001.JPEG"
        )
    return real_labels()[position]


LABEL_SPACES = (
    of_imagenets_classes(
        range(1000),
        name="imagenet",
        description="ImageNet's 1,000 classes; its validation images, also where no folder sorts "
        "them by class",
        accepted=_first_label,
        images=50_000,
        per_class=50,
    ),
    of_imagenets_classes(
        range(1000),
        name="real",
        description="ImageNet's validation images; each class that people see in one is right",
        accepted=_seen,
        images=46_837,
        by_label=False,
    ),
)
