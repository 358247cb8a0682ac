"""A user's own set: a JSON file that says the classes of each image, or of each folder."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from distill.analysis.label_spaces.class_lists import numbers_of, read_class_lists
from distill.analysis.label_spaces.data_files import imagenet_numbers, imagenet_wnids
from distill.analysis.label_spaces.label_space import LabelSpace, NoClass, folders
from distill.errors import UserError


def own_label_space(file: Path, class_names: Sequence[str]) -> LabelSpace:
    """The set of a JSON object {image or folder: a class, or a list of classes that are all right}.

    The classes that compete are those that it lists. What has an empty list does not count.

    Args:
      file: the map. Where all of its classes are WordNet numbers of ImageNet, it is a set of
        ImageNet's; else its classes are the model's, by name or number.
      class_names: the model's.

    Raises:
      UserError: naming the line or the entry, if the map is malformed or a class unknown.
    """
    lists = read_class_lists(file)
    listed = {one for found in lists.values() for one in found}
    if not listed:
        raise UserError(f"{file} lists no class; expected at least one image or folder with one")
    vocabulary = tuple(imagenet_wnids() if listed <= imagenet_numbers().keys() else class_names)
    numbers = numbers_of(lists, vocabulary, file)
    scored = sorted({number for found in numbers.values() for number in found})
    places = {number: place for place, number in enumerate(scored)}
    return LabelSpace(
        name=file.stem,
        description=f"the images of {file}",
        vocabulary=vocabulary,
        class_names=tuple(vocabulary[number] for number in scored),
        members=tuple((number,) for number in scored),
        accepted=functools.partial(
            _accepted, {key: [places[n] for n in found] for key, found in numbers.items()}
        ),
        by_label=False,
    )


def _accepted(lists: Mapping[str, Sequence[int]], name: str) -> Sequence[int]:
    for key in (name, name.rpartition("/")[2], *folders(name)):
        if key in lists:
            return lists[key]
    raise NoClass("the map has neither it nor its folder")
