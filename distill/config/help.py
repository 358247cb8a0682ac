"""What the keys of a config are: types, defaults and what a config says, in words."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from distill.config.build import laid_over
from distill.config.docs import field_docs, headline
from distill.config.schema import (
    MISSING,
    choice,
    default_of,
    fields,
    has_leaf,
    implied_by,
    members_of,
    named,
    upgraded,
)
from distill.config.tagged import Choice
from distill.config.values import known_names, type_name

REQUIRED = "required"
"""In place of the default of a key that has none."""
DERIVED = "from other keys"
"""In place of the default of a key whose value follows from others."""


# A dataclass, a field of it and its annotation.
_Holder = tuple[type, dataclasses.Field, Any]


class Key(NamedTuple):
    """A key that holds a value."""

    path: str
    """Such as config.train.batch_size; what the user names is NAME."""
    kind: str
    default: str
    """As it would be typed, `REQUIRED` or `DERIVED`."""
    value: str | None
    """What the config says or leads to, as it would be typed; None where the default applies."""
    doc: str


class Section(NamedTuple):
    """A section and the keys right in it."""

    path: str
    doc: str
    keys: tuple[Key, ...]
    kinds: tuple[tuple[str, str], ...] = ()
    """Of a section that may be one of several, what each is, such as `kind=split`, and what of its
    keys not all have."""


def describe(schema: type) -> list[Key]:
    """Every key of a schema that holds a value."""
    return [key for section in sections(schema) for key in section.keys]


def sections(
    schema: type, tree: Mapping[str, Any] | None = None, overrides: Mapping[str, str] = {}
) -> list[Section]:
    """The sections of a schema, each before those in it.

    Args:
      schema: the dataclass, or a base of those it may be.
      tree: of a config file, which need not be complete or right; None describes any config.
      overrides: dotted, as `resolve` takes them.
    """
    value = MISSING if tree is None else laid_over(tree, overrides, schema, [])
    return list(_sections(members_of(schema), "", MISSING, value, "config"))


def _sections(one_of: Choice, doc: str, default: Any, value: Any, path: str) -> Iterator[Section]:
    members = _members(one_of, default, value)
    keys: list[Key] = []
    below: list[Section] = []
    for name, holders in _holders(members).items():
        member, field, annotation = holders[0]
        text = _told(one_of, holders)
        if len(holders) < len(members):
            text = f"Of {one_of.tag} {_labels(one_of, holders)}. {text}"
        before = getattr(default, name) if isinstance(default, member) else default_of(field)
        said = _said(member, value, name)
        here = f"{path}.{name}"
        if name == one_of.tag:
            kind = f"one of {', '.join(one_of.labelled)}"
            shown = _typed(before) if isinstance(default, member) else REQUIRED
            keys.insert(0, Key(here, kind, shown, _typed_or_none(said), text))
            continue
        keys += _keys(annotation, _defaults(one_of, holders, before), said, here, text)
        below += _below(annotation, before, said, here, text)
    doc = doc or (headline(members[0]) if len(members) == 1 else "")
    yield Section(path, doc, tuple(keys), tuple(_kinds(one_of, members)))
    yield from below


def _members(one_of: Choice, default: Any, value: Any) -> tuple[type, ...]:
    """Those a section may be: the one that is chosen, or all."""
    label = value.get(one_of.tag, "") if isinstance(value, Mapping) else ""
    if label in one_of.labelled:
        return (one_of.labelled[label],)
    for one in (value, default):
        if isinstance(one, one_of.members):
            return (type(one),)
    return one_of.members


def _told(one_of: Choice, holders: list[_Holder]) -> str:
    """What dataclasses say of a field: the first of them, and those that say something else."""
    texts: dict[str, list[_Holder]] = {}
    for holder in holders:
        texts.setdefault(field_docs(holder[0]).get(holder[1].name, ""), []).append(holder)
    first, *others = texts
    return " ".join(
        [first, *(f"Of {_labels(one_of, texts[one])}: {one}" for one in others if one)]
    ).strip()


def _kinds(one_of: Choice, members: tuple[type, ...]) -> Iterator[tuple[str, str]]:
    """Of each of several dataclasses its label and what it is, with keys that others lack."""
    if one_of.tag is None or len(members) < 2:
        return
    common = set.intersection(*({field.name for field, _ in fields(one)} for one in members))
    for label, member in one_of.labelled.items():
        own = [field.name for field, _ in fields(member) if field.name not in common]
        said = ". ".join(filter(None, [headline(member), f"Keys: {', '.join(own) or 'none more'}"]))
        yield f"{one_of.tag}={label}", f"{said}."


def _holders(members: tuple[type, ...]) -> dict[str, list[_Holder]]:
    """For each field's name, the dataclasses that have it, with field and annotation."""
    found: dict[str, list[_Holder]] = {}
    for member in members:
        for field, annotation in fields(member):
            found.setdefault(field.name, []).append((member, field, annotation))
    return found


def _labels(one_of: Choice, holders: Iterable[_Holder]) -> str:
    having = {member for member, _, _ in holders}
    return ", ".join(label for label, member in one_of.labelled.items() if member in having)


def _said(member: type, value: Any, name: str) -> Any:
    """What a config says of a field, or what follows from what it says."""
    if not isinstance(value, Mapping):
        return getattr(value, name) if dataclasses.is_dataclass(value) else MISSING
    given = upgraded(member, value)
    if name in given:
        return given[name]
    try:
        return implied_by(member, given).get(name, MISSING)
    except ValueError:
        return MISSING


def _defaults(one_of: Choice, holders: list[_Holder], first: Any) -> str:
    """The default of a field, and of the dataclasses where it is another one, theirs."""
    default = _default(holders[0][0], first)
    others: dict[str, list[_Holder]] = {}
    for holder in holders[1:]:
        theirs = _default(holder[0], default_of(holder[1]))
        if theirs != default:
            others.setdefault(theirs, []).append(holder)
    listed = [f", of {_labels(one_of, those)} {theirs}" for theirs, those in others.items()]
    return "".join([default, *listed])


def _default(member: type, default: Any) -> str:
    if default is MISSING:
        return DERIVED if hasattr(member, "implied") else REQUIRED
    return _typed(default)


def _keys(annotation, default: str, said: Any, here: str, doc: str) -> Iterator[Key]:
    """The key itself, if it may hold a value."""
    is_section = choice(annotation) is not None
    if named(annotation) is None and (not is_section or has_leaf(annotation)):
        value = None if isinstance(said, Mapping) else _typed_or_none(said)
        yield Key(here, type_name(annotation), default, value, doc)


def _below(annotation, default: Any, said: Any, here: str, doc: str) -> Iterator[Section]:
    """The sections of a field."""
    if section := choice(annotation):
        yield from _sections(section, doc, default, said, here)
    elif item := named(annotation):
        before = default if isinstance(default, Mapping) else {}
        now = said if isinstance(said, Mapping) else {}
        names = known_names(annotation) or sorted({**before, **now})
        if not names or (said is MISSING and known_names(annotation) is None):
            names = [*names, "NAME"]
        entries = [(name, before.get(name, MISSING), now.get(name, MISSING)) for name in names]
        if choice(item) is None:
            keys = [
                Key(f"{here}.{name}", type_name(item), _typed(old), _typed_or_none(new), "")
                for name, old, new in entries
            ]
            yield Section(here, doc, tuple(keys))
            return
        for name, old, new in entries:
            yield from _below(item, old, new, f"{here}.{name}", doc)


def _typed_or_none(value: Any) -> str | None:
    return None if value is MISSING else _typed(value)


def _typed(value: Any) -> str:
    """A value as it would be typed on a command line."""
    if value is None or value is MISSING:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return repr(tuple(value))
    return str(value) or "''"
