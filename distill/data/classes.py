"""Classes by name: a model's, in the order of its logits, and those of the images it is shown.

A label is a number only together with the names it counts. Wherever images meet a model, they are
`numbered` as the model's classes are, by name, whatever their own order.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from distill.data.sources import Source, abbreviate
from distill.data.sources.base import Derived, cached_property, fingerprint_of
from distill.data.sources.class_lists import lines_of_text
from distill.data.spec import ClassesSpec, Example
from distill.errors import UserError, did_you_mean
from distill.json_files import each_once
from distill.paths import IN_ORDER

Names = tuple[str, ...]


def read_class_map(file: Path) -> dict[str, str]:
    """Reads a JSON object {class of the data: what to call it}.

    Raises:
      UserError: if the file is anything else, or names a class twice.
    """
    try:
        # Editors on Windows begin files with a mark.
        text = file.read_text(encoding="utf-8-sig")
        content = json.loads(text, object_pairs_hook=each_once)
        if not (isinstance(content, dict) and all(isinstance(n, str) for n in content.values())):
            raise ValueError("it is no such object")
        if not content:
            raise ValueError("it is empty")
    except OSError as error:
        raise UserError(f"class_map {file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"class_map {file} is no map of classes: {error}. Expected a JSON object such as "
            '{"class of the data": "class of the model"}'
        ) from error
    lines_of_text(content.values(), f"class_map {file}")
    return content


def places(
    classes: Sequence[str],
    model: Sequence[str],
    *,
    shown: str,
    whose: str,
    in_order: bool = False,
) -> tuple[int, ...]:
    """The number of each class among a model's.

    Args:
      classes: of images, or of another model.
      model: the model's, in the order of its logits.
      shown: what messages call what is of `classes`.
      whose: what messages call the model.
      in_order: whether the user has said that classes of other names are in the model's order.

    Raises:
      UserError: for classes that the model does not have, or has twice.
    """
    classes, model = tuple(classes), tuple(model)
    if classes == model:
        return tuple(range(len(model)))
    number = {name: place for place, name in enumerate(model)}
    strangers, times = [name for name in classes if name not in number], Counter(model)
    twice = [name for name in classes if times[name] > 1]
    obstacle = _obstacle(classes, model)
    if in_order and (strangers or twice) and not obstacle:
        return tuple(range(len(model)))
    if strangers:
        near = did_you_mean(strangers[0], model)
        raise UserError(
            f"{shown} has {_count(strangers)} that {whose} does not have: {_quoted(strangers)}"
            f"{near}{' ' if near else '. '}{_sentence(whose)} has {_count(model)}: "
            f"{_quoted(model)}. "
            + (f"They are not in one order: {obstacle}. {_MAP}" if in_order else f"{_MAP}{_ORDER}")
        )
    if twice:
        raise UserError(
            f"{whose} has more than one class {twice[0]!r}, so that its number cannot be told by "
            f"the name. {_MAP}{_ORDER}"
        )
    return tuple(number[name] for name in classes)


_MAP = (
    "If they are the same classes under other names, say which is which: class_map=FILE "
    "(--class_map, or config.data.class_map), a JSON object "
    '{"class of the data": "class of the model"}'
)
_ORDER = f", or class_map={IN_ORDER} where both are in one order"


def _obstacle(classes: Names, model: Names) -> str:
    """Why classes cannot be the model's, one after the other; empty if they can."""
    if len(classes) != len(model):
        return f"they are {len(classes)} and {len(model)}"
    for place, name in enumerate(classes):
        # What both know by one name has to be at one place.
        if name in model and model[place] != name:
            return f"{name!r} is number {place} of the one and {model.index(name)} of the other"
    return ""


def _count(names: Sequence[str]) -> str:
    return f"{len(names):,} class{'es' if len(names) != 1 else ''}"


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (", …" if len(names) > 5 else "")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


class Relabelled(Derived):
    """A source's images, their classes numbered or called otherwise.

    Args:
      source: the images.
      class_names: in the order of the new numbers.
      numbers: of each of the source's classes, in their order, its number among `class_names`; −1
        for one of which the source has no images.
    """

    def __init__(self, source: Source, class_names: Sequence[str], numbers: Sequence[int]):
        super().__init__(source)
        self.class_names = tuple(class_names)
        had = {*numbers} - {-1}
        self.among = None if len(had) == len(class_names) else tuple(sorted(had))
        if "classes" in self.spec:
            self.spec = {**self.spec, "classes": ClassesSpec(len(class_names))}
        # The last entry is where labels of −1, of images without one, end up.
        self._numbers = np.array([*numbers, -1], np.int32)

    @cached_property
    def labels(self) -> np.ndarray:
        """Of all images, int32 [N], −1 for an image without."""
        return self._numbers[self._source.labels]

    def read(self, index: int) -> Example:
        """Reads the example from the source; its label, or its classes, have their new numbers."""
        example = dict(self._source.read(index))
        if "label" in example:
            example["label"] = self._numbers[example["label"]]
        if "classes" in example:
            # The last takes those of classes that have no number.
            renumbered = np.zeros(len(self.class_names) + 1, np.float32)
            np.maximum.at(renumbered, self._numbers[:-1], example["classes"])
            example["classes"] = renumbered[:-1]
        return example

    @cached_property
    def fingerprint(self) -> str:
        """Of the source's fingerprint, and what its classes are now."""
        return fingerprint_of(self._source.fingerprint, self._numbers.tolist(), self.class_names)

    @property
    def all_chosen(self) -> bool:
        """Whether the user has listed all of the source's classes."""
        return all_chosen(self._source)

    @property
    def calls(self) -> dict[str, str]:
        """What classes are called now, by their names in the source, where these are others."""
        pairs = zip(self._source.class_names, self._numbers.tolist(), strict=False)
        called = {name: self.class_names[number] for name, number in pairs if number >= 0}
        return {name: now for name, now in called.items() if name != now}


def among(source: Source) -> tuple[int, ...] | None:
    """The numbers of the classes that a source knows, if it is numbered as a model that has more.

    None where it knows all that it names.
    """
    return getattr(source, "among", None)


def all_chosen(source: Source) -> bool:
    """Whether the user has listed all classes of a source, and so said in which order they are."""
    return getattr(source, "all_chosen", False)


def calls(source: Source) -> dict[str, str]:
    """What classes of a source are called for a model's sake, by what they are called in it."""
    return getattr(source, "calls", {})


def pairs(called: Mapping[str, str]) -> str:
    """What `calls` returns, for people to read."""
    shown = [f"{old!r} → {new!r}" for old, new in called.items()]
    return ", ".join(shown[:10]) + (", …" if len(shown) > 10 else "")


def present(source: Source) -> Names:
    """The names of the classes that a source knows."""
    numbers = among(source)
    names = source.class_names
    return names if numbers is None else tuple(names[number] for number in numbers)


def renamed(source: Source, names: Mapping[str, str], *, strict: bool = True) -> Source:
    """Images whose classes are called otherwise; classes that get one name become one.

    Args:
      source: the images.
      names: what to call classes, by their names; others keep theirs.
      strict: whether every name has to be one of the source's classes.

    Raises:
      UserError: if one is not, or none.
    """
    unknown = [name for name in names if name not in source.class_names]
    if unknown and (strict or len(unknown) == len(names)):
        raise UserError(
            f"class_map has {_quoted(unknown)}, which {'are' if len(unknown) > 1 else 'is'} no "
            f"class of the data, {_quoted(source.class_names)}"
        )
    called = [names.get(name, name) for name in source.class_names]
    classes = tuple(dict.fromkeys(called))
    return Relabelled(source, classes, [classes.index(name) for name in called])


def numbered(
    source: Source, model: Names, *, shown: str, whose: str, in_order: bool = False
) -> Source:
    """Images whose labels are the numbers that a model gives their classes.

    Args:
      source: the images; without labels they are returned as they are.
      model: the names of the model's classes, in the order of its logits.
      shown: what messages call the images.
      whose: what messages call the model.
      in_order: whether the user has said that classes of other names are in the model's order,
        as listing all of them does too.

    Raises:
      UserError: for classes that the model does not have, or has twice.
    """
    if not source.class_names or source.class_names == model:
        return source
    numbers = np.full(len(source.class_names), -1)
    there = among(source) or range(len(numbers))
    in_order = in_order or all_chosen(source)
    numbers[[*there]] = places(present(source), model, shown=shown, whose=whose, in_order=in_order)
    return Relabelled(source, model, numbers.tolist())


def name_classes(whose: str, count: int, *candidates: Names, by: str = "the data has") -> Names:
    """The names of a model's classes: the first candidates of which there are as many.

    Args:
      whose: what messages call the model.
      count: how many classes it has.
      candidates: those of its data or its teachers, preferred first; empty where nothing is known.
      by: who names them, for the error.

    Raises:
      UserError: if classes are named, but never as many.
    """
    known = [names for names in candidates if names]
    for names in known:
        if len(names) == count:
            return names
    if known:
        raise UserError(
            f"{whose} has {count} classes, but {by} {len(known[0])} ({abbreviate(known[0])})"
        )
    return ()
