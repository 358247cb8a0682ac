"""From nested mappings and overrides to the dataclasses of a config."""

import copy
import dataclasses
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from distill.config.problems import ConfigError, unknown_key
from distill.config.schema import (
    MISSING,
    annotation_at,
    choice,
    default_of,
    fields,
    has_leaf,
    implied_by,
    leaves,
    members_of,
    named,
    options,
    stated_values,
    upgraded,
)
from distill.config.tagged import Choice
from distill.config.values import (
    Text,
    coerce,
    known_names,
    literals,
    parse_text,
    shown,
    type_name,
    what_to_type,
)
from distill.errors import GivenTwice, UserError, did_you_mean
from distill.references import evaluated, is_reference

T = TypeVar("T")
# Of a name, in messages.
_SHOWN = 120
# Of what the user names, which may also name a directory and metrics.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{,99}")


def resolve(schema: type[T], tree: Mapping[str, Any], overrides: Mapping[str, str] = {}) -> T:
    """Builds the dataclass `schema` from nested mappings and dotted string overrides.

    A field of one of the types in `distill.paths` holds a path, which becomes absolute. A section
    may be one of several dataclasses (`distill.config.tagged`); `schema` may be a base of such. A
    dict of named values is laid over its default, from which None takes an entry away, and in place
    of the dict all of them. A dataclass may have a class method `implied(given)` that returns
    values of fields which follow from those that are given, by name; what is given goes before. A
    class method `upgraded(recorded)` returns the values of a section as an earlier version recorded
    it, in their present form.

    Raises:
      ConfigError: naming everything that is wrong.
    """
    problems: list[str] = []
    merged = laid_over(tree, overrides, schema, problems)
    found = members_of(schema)
    known = sorted({path for one in found.members for path, _, _ in leaves(one)})
    config = _Builder(known, problems, overrides).section(found, MISSING, merged, "config")
    if problems:
        raise ConfigError(problems)
    return config


def laid_over(
    tree: Mapping[str, Any],
    overrides: Mapping[str, str],
    schema: type,
    problems: list[str],
) -> dict[str, Any]:
    """A config file's values with the overrides in place, and what refers to them computed.

    Args:
      tree: as `load_file` returns it; left alone.
      overrides: by dotted keys; they stay `Text` but where other keys refer to them.
      schema: of the config.
      problems: gets a line for each override that has no place.
    """
    merged = copy.deepcopy(dict(tree))
    followed: dict[int, tuple[str, str]] = {}
    for key, text in overrides.items():
        *parents, leaf = keys = key.split(".")
        node = merged
        for depth, parent in enumerate(parents, 1):
            there = node.get(parent)
            if there is None or (isinstance(there, Text) and there.is_none):
                if parent in node and named(annotation_at(schema, keys[:depth])):
                    problems.append(
                        f"config.{key}: config.{'.'.join(keys[:depth])} is none, which takes all "
                        "away; take entries away by their names to add others"
                    )
                node[parent] = {}
            node = node[parent]
            if not isinstance(node, dict):
                problems.append(f"config.{key}: {parent} is a value, not a section")
                break
        else:
            there = node.get(leaf)
            if not is_reference(there):
                node[leaf] = Text(text)
                continue
            other, theirs = followed.setdefault(id(there), (key, text))
            if theirs != text:
                problems.append(
                    f"config.{key} and config.{other} are one value in the config file; give one"
                )
            annotation = annotation_at(schema, keys)
            value = parse_text(text, annotation)
            try:
                there.set(value, type_safe=False)
            except (OverflowError, TypeError, ValueError):
                # Of the type that the config file's value has.
                expected = type_name(annotation)
                problems.append(f"config.{key} is {shown(value)}; expected {expected}")
    return evaluated(merged, problems)


@dataclasses.dataclass(frozen=True)
class _Builder:
    known: list[str]
    """Paths of all keys."""
    problems: list[str]
    """Gets a line for each."""
    overrides: Mapping[str, str]
    """By dotted keys, as they were typed."""

    def section(self, one_of: Choice, default: Any, value: Any, here: str) -> Any:
        """One of several dataclasses; MISSING if it cannot be built."""
        if isinstance(value, one_of.members):
            return value
        if not isinstance(value, Mapping):
            self.problems.append(
                f"{here} is {shown(value)}; expected a section with keys"
                f"{_first_key(one_of, here, value)}"
            )
            return MISSING
        schema = self._member(one_of, default, value, here)
        if schema is None:
            return MISSING
        value = upgraded(schema, value)
        if type(default) is schema:
            value = stated_values(default) | value
        return self._dataclass(schema, one_of, value, here)

    def _member(self, one_of, default, value, here) -> type | None:
        if one_of.tag is None:
            return one_of.members[0]
        labelled, label = one_of.labelled, value.get(one_of.tag, MISSING)
        if label is MISSING and isinstance(default, one_of.members):
            return type(default)
        if isinstance(label, str) and label in labelled:
            return labelled[label]
        expected = f"expected one of {', '.join(labelled)}"
        if label is MISSING:
            self.problems.append(f"{here}.{one_of.tag} is missing; {expected}")
        else:
            near = did_you_mean(label, labelled) if isinstance(label, str) else ""
            problem = f"{here}.{one_of.tag} is {shown(label)}; {expected}{near}"
            self.problems.append(problem)
        names = list(dict.fromkeys(f.name for one in one_of.members for f, _ in fields(one)))
        for key in value:
            if key not in names:
                self.problems.append(unknown_key(here, key, names, self.known))
        return None

    def _dataclass(self, schema, one_of, tree, here) -> Any:
        values, failed = {}, set()
        for key in tree:
            self._check_key(schema, one_of, key, here)
        for field, annotation in fields(schema):
            value = tree.get(field.name, MISSING)
            section, default = choice(annotation), default_of(field)
            if value is MISSING and section is not None and default is MISSING:
                value = {}
            if value is MISSING:
                continue
            built = self._value(annotation, default, value, f"{here}.{field.name}")
            if built is MISSING:
                failed.add(field.name)
            else:
                values[field.name] = built
        return self._complete(schema, values, failed, here)

    def _complete(self, schema, values, failed, here) -> Any:
        """The dataclass of the values that are given, with those that follow from them."""
        if failed and hasattr(schema, "implied"):
            # What is missing may follow from what is wrong.
            return MISSING
        try:
            values = implied_by(schema, values) | values
        except (ValueError, TypeError) as error:
            self.problems.append(f"{here}: {error}")
            return MISSING
        for field, annotation in fields(schema):
            if field.name in values.keys() | failed or default_of(field) is not MISSING:
                continue
            failed.add(field.name)
            self.problems.append(
                f"{here}.{field.name} is missing; expected {type_name(annotation)}"
            )
        if failed:
            return MISSING
        try:
            return schema(**values)
        except GivenTwice as error:
            self.problems.append(f"{here}: {error}{self._origins(error.given, here)}")
            return MISSING
        except (ValueError, TypeError) as error:
            self.problems.append(f"{here}: {error}")
            return MISSING

    def _origins(self, given: tuple[str, ...], here: str) -> str:
        """The end of a message about keys of which one may be given: who gave which."""
        prefix = f"{here}.".removeprefix("config.")
        heads = {key.removeprefix(prefix).split(".")[0] for key in self.overrides}
        typed = [name for name in given if name in heads]
        filed = [name for name in given if name not in heads]
        if not typed or not filed:
            return ""
        flags = " ".join(f"--{here}.{name}=none" for name in filed)
        return (
            f". {' and '.join(filed)} is from the config file, {' and '.join(typed)} from the "
            f"command line; to have the latter, add {flags}"
        )

    def _check_key(self, schema, one_of, key, here) -> None:
        names = [field.name for field, _ in fields(schema)]
        if key in names:
            return
        others = [
            label
            for label, member in one_of.labelled.items()
            if key in (field.name for field, _ in fields(member))
        ]
        if others:
            (own,) = (label for label, member in one_of.labelled.items() if member is schema)
            self.problems.append(
                f"{here}.{key} belongs to {one_of.tag} {' and '.join(others)}, not to {own}"
            )
        else:
            self.problems.append(unknown_key(here, key, names, self.known))

    def _value(self, annotation, default, value, here) -> Any:
        if isinstance(value, Text) and value.is_none and type(None) in options(annotation):
            return None
        section, item = choice(annotation), named(annotation)
        if section is not None and value is not None:
            if isinstance(value, (Mapping, *section.members)) or not has_leaf(annotation):
                return self.section(section, default, value, here)
        elif item is not None:
            return self._named(annotation, item, default, value, here)
        return self._leaf(annotation, value, here)

    def _leaf(self, annotation, value, here) -> Any:
        if isinstance(value, Text):
            value = parse_text(value, annotation)
        try:
            built = coerce(value, annotation, here)
            if built is MISSING:
                self.problems.append(
                    f"{here} is {shown(value)}; expected {type_name(annotation)}"
                    f"{what_to_type(value, annotation, here)}"
                )
        except UserError as error:
            self.problems.append(str(error))
            return MISSING
        return built

    def _named(self, annotation, item, default, value, here) -> Any:
        """Values by name, in the order of their names, whatever the order they were given in."""
        what = "values" if choice(item) is None else "sections"
        if value is None or (isinstance(value, Text) and value.is_none):
            return {}
        if not isinstance(value, Mapping):
            self.problems.append(f"{here} is {shown(value)}; expected {what} by name")
            return MISSING
        before = default if isinstance(default, Mapping) else {}
        names, built = known_names(annotation), {}
        for name in sorted(before.keys() | value.keys()):
            one = value.get(name, before.get(name))
            if one is None or (isinstance(one, Text) and one.is_none):
                continue
            key = f"{here}.{name}"
            if not _NAME.fullmatch(name):
                self.problems.append(
                    f"{here}.{name[:_SHOWN]}: a name has the letters a to z and A to Z, digits, - "
                    "and _ only, and at most 100 of them"
                )
                built[name] = MISSING
            elif names is not None and name not in names:
                self.problems.append(unknown_key(here, name, names, self.known))
                built[name] = MISSING
            else:
                built[name] = self._value(item, before.get(name, MISSING), one, key)
        return MISSING if any(one is MISSING for one in built.values()) else built


def _first_key(one_of: Choice, here: str, value: Any) -> str:
    """The end of a message about a section that is given as a value: what can be typed instead."""
    found = [(field.name, hint) for field, hint in fields(one_of.members[0])]
    known = {name: listed for name, hint in found if (listed := literals(hint))}
    name = one_of.tag or next(iter([*known, *(name for name, _ in found)]), None)
    texts = one_of.labelled if one_of.tag else known.get(name or "", [])
    near = did_you_mean(value, texts, alike=0.5) if isinstance(value, str) else ""
    example = near.split("'")[1] if near else "VALUE"
    return f", such as --{here}.{name}={example}" if name else ""
