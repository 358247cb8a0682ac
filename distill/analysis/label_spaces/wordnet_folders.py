"""ImageNet's classes by the folders of images, whose names are WordNet numbers."""

import functools
from collections.abc import Sequence
from typing import Any

from distill.analysis.label_spaces.data_files import imagenet_numbers, imagenet_wnids
from distill.analysis.label_spaces.label_space import LabelSpace, NoClass, wnid_folder


def of_imagenets_classes(numbers: Sequence[int], **rest: Any) -> LabelSpace:
    """A set of some of ImageNet's classes, in folders named by WordNet numbers.

    Args:
      numbers: of ImageNet's classes, those that compete.
      **rest: the other fields of `LabelSpace`.
    """
    wnids = imagenet_wnids()
    places = {wnids[number]: place for place, number in enumerate(numbers)}
    rest.setdefault("accepted", functools.partial(by_folder, places))
    return LabelSpace(
        vocabulary=wnids,
        class_names=tuple(places),
        members=tuple((number,) for number in numbers),
        **rest,
    )


def by_folder(places: dict[str, int], name: str) -> tuple[int]:
    """The class of an image by the WordNet number of its folder.

    Args:
      places: the numbers of a set's classes, by WordNet number.
      name: the image's path.

    Raises:
      NoClass: if none of its folders is called so.
      ValueError: if it is of a class that the set does not have.
    """
    wnid = wnid_folder(name)
    if wnid is None:
        raise NoClass("expected it in a folder such as n01440764")
    if wnid not in places:
        strange = "" if wnid in imagenet_numbers() else ", nor of ImageNet's"
        raise ValueError(f"{wnid} is none of the set's {len(places):,} classes{strange}")
    return (places[wnid],)
