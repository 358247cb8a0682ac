"""Of a set of images, which classes compete and which of them each image may be taken for."""

import dataclasses
import functools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated

from distill.errors import UserError, did_you_mean
from distill.evaluation_view import Crop
from distill.modules import modules_in
from distill.paths import local_path

_PACKAGE = "distill.analysis.label_spaces"
_WNID = re.compile(r"n\d{8}")


class NoClass(ValueError):
    """An image's name says no class; the message says what was expected."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelSpace:
    """A set's classes, and how an image's name says which of them it may be taken for."""

    name: str
    description: str
    """In one line, as the docs and `--help` have it."""
    vocabulary: tuple[str, ...]
    """What `members` count: the WordNet numbers of ImageNet's classes, or a model's own classes."""
    class_names: tuple[str, ...]
    """Of the classes that compete, K."""
    members: tuple[tuple[int, ...], ...]
    """Of each of them, its numbers in the vocabulary; its score is their highest."""
    accepted: Callable[[str], Sequence[int]]
    """From an image's name to the numbers of the classes, below K, any of which is right; none for
    an image that does not count. Raises NoClass for a name that says none, and ValueError for one
    that says a class which is not the set's."""
    images: int | None = None
    """How many that count there are in the whole set, as published."""
    per_class: int | None = None
    """How many there are of each class, where that is one number."""
    by_label: bool = True
    """Whether an image whose name says no class may be taken for what its label says."""
    crop: Crop = "square875"
    """How the set's images are shown for the figures of big_vision."""
    terms: str = ""
    """What its publishers allow, said beside its figures."""
    border: int = 0
    """Pixels at each side that are left out of an image before anything else is done to it."""


@functools.cache
def known_label_spaces() -> dict[str, LabelSpace]:
    """Every set that a module of this package declares, by name, in the order of the names.

    Raises:
      ValueError: if two have the same name.
    """
    found = [
        space for module in modules_in(_PACKAGE) for space in getattr(module, "LABEL_SPACES", ())
    ]
    names = Counter(space.name for space in found)
    if twice := [name for name, count in names.items() if count > 1]:
        raise ValueError(f"two modules of {_PACKAGE} declare the set {', '.join(twice)}")
    return {space.name: space for space in sorted(found, key=lambda space: space.name)}


def set_or_map(text: str, what: str = "label_space") -> str:
    """The name of a known set, or the absolute path of a user's own, a .json file.

    Args:
      text: as a user writes it.
      what: the key or flag that holds it, for errors.

    Raises:
      UserError: if it is neither.
    """
    if text.endswith(".json"):
        return local_path(text, what)
    known = known_label_spaces()
    if text not in known:
        near = did_you_mean(text, known)
        raise UserError(
            f"{what} {text!r} is no known set{near}{' ' if near else '. '}Expected one of "
            f"{', '.join(known)}, or a JSON file that says the classes of each image or folder"
        )
    return text


SetOrMap = Annotated[str, set_or_map]
"""The name of a set whose label space is known, or the path of a user's own map, a .json file."""


def folders(name: str) -> Sequence[str]:
    """The folders of an image, from the one it lies in upwards."""
    return name.split("/")[-2::-1] if "/" in name else ()


def wnid_folder(name: str) -> str | None:
    """The nearest folder of an image that is called as a WordNet number, such as n01440764."""
    return next((folder for folder in folders(name) if _WNID.fullmatch(folder)), None)
