"""What the dataclasses of a config declare: fields, sections and keys."""

import dataclasses
import functools
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Union

from distill.config.tagged import Choice

MISSING: Any = object()
"""In place of a value that is not there."""


@functools.cache
def fields(schema: type) -> tuple[tuple[dataclasses.Field, Any], ...]:
    """The fields of a dataclass with their annotations."""
    hints = typing.get_type_hints(schema, include_extras=True)
    return tuple((field, hints[field.name]) for field in dataclasses.fields(schema))


def default_of(field: dataclasses.Field) -> Any:
    """A field's default, or MISSING."""
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return MISSING


def implied_by(schema: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Values that follow from those that are given; see `distill.config.resolve`.

    Raises:
      ValueError: for a value from which nothing can follow.
    """
    implied = getattr(schema, "implied", None)
    return dict(implied(given)) if implied else {}


def stated_values(config: Any) -> dict[str, Any]:
    """The values of a dataclass's fields but for those that follow from the others."""
    values = {field.name: getattr(config, field.name) for field, _ in fields(type(config))}
    implied = implied_by(type(config), values)
    return {key: value for key, value in values.items() if implied.get(key, MISSING) != value}


def upgraded(schema: type, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """A section of an earlier version as it is written now; see `distill.config.resolve`."""
    upgrade = getattr(schema, "upgraded", dict)
    return upgrade(recorded)


def options(annotation: Any) -> tuple[Any, ...]:
    """X and Y of an annotation `X | Y`."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is Union:
        return typing.get_args(annotation)
    return (annotation,)


def bare(annotation: Any) -> Any:
    """The type in an annotation such as `Annotated[str, …]`."""
    is_annotated = typing.get_origin(annotation) is Annotated
    return typing.get_args(annotation)[0] if is_annotated else annotation


def choice(annotation: Any) -> Choice | None:
    """The dataclasses an annotation names, through `X | None`; None for a leaf."""
    return Choice.among(options(annotation))


def members_of(schema: type) -> Choice:
    """The dataclass, or those below a base, of which a config is one.

    Raises:
      TypeError: if it is neither.
    """
    if (found := choice(schema)) is None:
        raise TypeError(f"{schema!r} is no dataclass, and no base of such")
    return found


def has_leaf(annotation: Any) -> bool:
    """Whether an annotation also allows what is no section, other than None."""
    return any(
        option is not type(None) and Choice.among((option,)) is None
        for option in options(annotation)
    )


def named(annotation: Any) -> Any:
    """X of an annotation `dict[str, X]`, values that the user names; None for any other."""
    for option in map(bare, options(annotation)):
        if typing.get_origin(option) is dict:
            return typing.get_args(option)[1]
    return None


def leaves(schema: type, prefix: str = "config.") -> Iterator[tuple[str, dataclasses.Field, Any]]:
    """Path, field and annotation of every key that holds a value, each once.

    Of a section that is one of several dataclasses, these are the keys of all; what the user names
    is NAME.
    """
    for field, annotation in fields(schema):
        yield from _leaves(field, annotation, prefix + field.name)


def _leaves(field, annotation, path) -> Iterator[tuple[str, dataclasses.Field, Any]]:
    section = choice(annotation)
    if section:
        found = {}
        for member in section.members:
            for leaf in leaves(member, f"{path}."):
                found.setdefault(leaf[0], leaf)
        yield from found.values()
    elif item := named(annotation):
        yield from _leaves(field, item, f"{path}.NAME")
    if (not section and not item) or (section and has_leaf(annotation)):
        yield path, field, annotation


def annotation_at(schema: type, keys: Iterable[str]) -> Any:
    """What the value at a path of keys has to be; str where there is no such key."""
    annotation = schema
    for key in keys:
        if item := named(annotation):
            annotation = item
            continue
        section = choice(annotation)
        hints = [
            hint
            for member in (section.members if section else ())
            for field, hint in fields(member)
            if field.name == key
        ]
        if not hints:
            return str
        annotation = Union[tuple(hints)]  # noqa: UP007 - of as many as there are
    return annotation
