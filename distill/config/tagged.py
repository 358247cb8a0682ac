"""Sections that are one of several dataclasses, told apart by a field: their tag.

The tag is a `Literal` of one value in each, such as `kind: Literal["split"] = "split"`. An
annotation names the dataclasses, `A | B`, or a base that new files extend, an `OneOf`.
"""

import dataclasses
import functools
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal

from distill.modules import modules_in


class OneOf:
    """Base of the dataclasses that a section may be one of; a new file may bring another.

    Where it is the annotation of a field, the section is one of its subclasses that say their tag:

        class EvaluationConfig(OneOf, tag="kind", found_in=("distill.evaluate",)):
            ...

        @dataclasses.dataclass(frozen=True, kw_only=True)
        class SplitConfig(EvaluationConfig):
            kind: Literal["split"] = "split"

    Args:
      tag: the field that tells them apart.
      found_in: packages whose modules are loaded to find them.
    """

    # For type checkers: what is below is a dataclass.
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]
    _tag: ClassVar[str]
    _found_in: ClassVar[tuple[str, ...]]

    def __init_subclass__(
        cls, *, tag: str | None = None, found_in: tuple[str, ...] = (), **options: Any
    ):
        super().__init_subclass__(**options)
        if tag is not None:
            cls._tag, cls._found_in = tag, found_in


def is_open(annotation: Any) -> bool:
    """Whether an annotation is a base of which a section is any subclass."""
    return (
        isinstance(annotation, type)
        and issubclass(annotation, OneOf)
        and "_tag" in vars(annotation)
    )


def members(base: type[OneOf]) -> tuple[type, ...]:
    """The dataclasses below a base that say their tag, in the order of their labels.

    Raises:
      TypeError: if two have one label.
    """
    for package in base._found_in:
        modules_in(package)
    labelled = [(label, one) for one in _below(base) if (label := labels(one).get(base._tag))]
    _check_different(base._tag, labelled)
    return tuple(one for _, one in sorted(labelled, key=lambda pair: pair[0]))


def _below(base: type) -> Iterator[type]:
    for one in base.__subclasses__():
        yield one
        yield from _below(one)


def _check_different(tag: str, labelled: Iterable[tuple[str, type]]) -> None:
    first: dict[str, type] = {}
    for label, one in labelled:
        if (other := first.setdefault(label, one)) is not one:
            raise TypeError(
                f"{other.__module__}.{other.__qualname__} and {one.__module__}."
                f"{one.__qualname__} both have {tag} {label!r}"
            )


@functools.cache
def labels(section: type) -> dict[str, str]:
    """The fields of a dataclass that are a `Literal` of one text, with that text."""
    hints = typing.get_type_hints(section)
    names = [field.name for field in dataclasses.fields(section)]
    texts = {
        name: typing.get_args(hints[name])
        for name in names
        if typing.get_origin(hints[name]) is Literal
    }
    return {
        name: values[0]
        for name, values in texts.items()
        if len(values) == 1 and isinstance(values[0], str)
    }


@dataclasses.dataclass(frozen=True)
class Choice:
    """The dataclasses that a section may be."""

    members: tuple[type, ...]
    tag: str | None
    """None where there is only one."""

    @classmethod
    def among(cls, options: Iterable[Any]) -> "Choice | None":
        """That of an annotation's options; None if no dataclass is among them.

        Raises:
          TypeError: if several are, and no field tells them apart.
        """
        found: dict[type, str | None] = {}
        for option in options:
            if is_open(option):
                found |= dict.fromkeys(members(option), option._tag)
            elif isinstance(option, type) and dataclasses.is_dataclass(option):
                found[option] = None
        if not found:
            return None
        tags = {tag for tag in found.values() if tag is not None}
        if not tags and len(found) == 1:
            return cls(tuple(found), None)
        return cls(tuple(found), _common_tag(tuple(found), tags))

    @property
    def labelled(self) -> Mapping[str, type]:
        """By label; empty where there is no tag."""
        if self.tag is None:
            return {}
        return {labels(member)[self.tag]: member for member in self.members}


def _common_tag(sections: tuple[type, ...], tags: set[str]) -> str:
    tagged = [labels(section) for section in sections]
    for name in sorted(tags) or tagged[0]:
        if all(name in one for one in tagged):
            _check_different(
                name, [(one[name], of) for one, of in zip(tagged, sections, strict=True)]
            )
            return name
    raise TypeError(
        f"nothing tells {', '.join(section.__qualname__ for section in sections)} apart; each "
        "needs a field of one name, a Literal of one value"
    )
