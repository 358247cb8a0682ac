"""Keys that say how a run is executed, not what it computes, and may change when it is resumed."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from distill.config.schema import choice, fields, named

_MARK = "how_it_runs"


def how_it_runs(default: Any = dataclasses.MISSING, *, factory: Callable[[], Any] | None = None):
    """A dataclass field that says how a run is executed; a section's keys all do.

    Numbers may differ in their last bits, as sums are taken in another order on another mesh.

    Args:
      default: the field's.
      factory: makes the default, in its place.
    """
    metadata = {_MARK: True}
    if factory is not None:
        return dataclasses.field(default_factory=factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def execution_keys(schema: type) -> tuple[str, ...]:
    """The keys of a config that are marked by `how_it_runs`, such as `train.log_every`.

    A section that is marked is one key, such as `mesh`; `*` is any name that the user gives.
    """
    return tuple(sorted(set(_keys(schema, ""))))


def _keys(schema: type, prefix: str) -> Iterator[str]:
    for field, annotation in fields(schema):
        key = prefix + field.name
        if _MARK in field.metadata:
            yield key
            continue
        if item := named(annotation):
            annotation, key = item, f"{key}.*"
        section = choice(annotation)
        for member in section.members if section else ():
            yield from _keys(member, f"{key}.")
