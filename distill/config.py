"""From a config file and `--config.a.b=value` overrides to checked dataclasses.

The dataclasses are the vocabulary: a config file may say no more than they declare, and need say
no more than differs from their defaults. Whatever is wrong with a config is reported in one
`ConfigError`: unknown keys with the nearest valid name, wrong types, impossible values.
"""

import ast
import copy
import dataclasses
import difflib
import importlib.util
import inspect
import re
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

import ml_collections

from distill.errors import UserError
from distill.references import evaluated, tree_of
from distill.shipped import find_config

T = TypeVar("T")
_MISSING = object()
# Of a section the user names, which may also name a directory and metrics.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
# A config file and its argument; a colon may also be a URL's.
_SPEC = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.-]*://)?[^:]*):?(.*)", re.DOTALL)


class ConfigError(UserError):
    """Everything that is wrong with a config, a line each."""

    def __init__(self, problems: Iterable[str]):
        self.problems = tuple(problems)
        count = f"{len(self.problems)} problem" + ("s" if len(self.problems) != 1 else "")
        super().__init__(f"{count} in the config\n" + "\n".join(f"  {p}" for p in self.problems))


def load_file(spec: str) -> dict[str, Any]:
    """Runs `get_config` of the file in `spec`, which is `path.py` or `path.py:argument`.

    The path may be the name of a config that comes with the project, such as `pretrain/folder`.
    Values that the file computes from others stay references, which `resolve` evaluates.

    Raises:
      UserError: if the file is missing, is no config file, or refuses its argument.
    """
    path, argument = _SPEC.fullmatch(spec).groups()
    file = find_config(path)
    module_spec = importlib.util.spec_from_file_location(file.stem, file)
    if module_spec is None:
        raise UserError(f"config file {path!r} is not a Python file")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except (SyntaxError, ImportError, NameError) as error:
        raise UserError(f"config file {path!r} does not run: {error}") from error
    if not hasattr(module, "get_config"):
        raise UserError(f"config file {path!r} has no function get_config")
    parameters = inspect.signature(module.get_config).parameters.values()
    if argument and not parameters:
        raise UserError(f"config file {path!r} takes no argument, but got {argument!r}")
    if not argument and any(p.default is p.empty for p in parameters):
        raise UserError(f"config file {path!r} needs an argument: {path}:ARGUMENT")
    try:
        config = module.get_config(argument) if argument else module.get_config()
    except ValueError as error:
        raise UserError(f"config {spec!r}: {error}") from error
    return tree_of(config)


def resolve(schema: type[T], tree: Mapping[str, Any], overrides: Mapping[str, str] = {}) -> T:
    """Builds the dataclass `schema` from nested mappings and dotted string overrides.

    A field of one of the types in `distill.paths` holds a path, which becomes absolute.

    Raises:
      ConfigError: naming everything that is wrong.
    """
    known = sorted(_paths(schema))
    problems: list[str] = []
    merged = _merge(tree, overrides, schema, problems)
    config = _build(schema, merged, "config", known, problems)
    if problems:
        raise ConfigError(problems)
    return config


def with_defaults(config: Any, recorded: Any) -> Any:
    """A recorded config with the defaults of what it does not have, as earlier versions had less.

    Args:
      config: a dataclass whose fields are to be there, in its sections as well.
      recorded: as JSON has it.
    """
    if isinstance(config, dict) and isinstance(recorded, dict):
        sections = {
            key: with_defaults(config[key], recorded[key])
            for key in config.keys() & recorded.keys()
        }
        return recorded | sections
    if not dataclasses.is_dataclass(config) or not isinstance(recorded, dict):
        return recorded
    found = dict(recorded)
    for field in dataclasses.fields(config):
        if field.name in found:
            found[field.name] = with_defaults(getattr(config, field.name), found[field.name])
        elif (default := _default(field)) is not _MISSING:
            found[field.name] = _plain(default)
    return found


def to_dict(config: Any) -> dict[str, Any]:
    """The config as nested dicts and lists, as JSON has them."""
    return _plain(config)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def describe(schema: type) -> list[tuple[str, str, str]]:
    """Rows (key, type, default) for every leaf of a schema, for `--help`."""
    rows = []
    for path, field, annotation in _leaves(schema):
        default = "required" if _default(field) is _MISSING else repr(_default(field))
        rows.append((path, _type_name(annotation), default))
    return rows


def _fields(schema: type) -> list[tuple[dataclasses.Field, Any]]:
    hints = typing.get_type_hints(schema, include_extras=True)
    return [(field, hints[field.name]) for field in dataclasses.fields(schema)]


def _section(annotation: Any) -> type | None:
    """The dataclass an annotation names, through `X | None`; None for a leaf."""
    for option in _options(annotation):
        if dataclasses.is_dataclass(option):
            return option
    return None


def _named(annotation: Any) -> type | None:
    """The dataclass X of an annotation dict[str, X]: sections that the user names."""
    if typing.get_origin(annotation) is dict:
        return _section(typing.get_args(annotation)[1])
    return None


def _options(annotation: Any) -> tuple[Any, ...]:
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return typing.get_args(annotation)
    return (annotation,)


def _leaves(schema: type, prefix: str = "config."):
    for field, annotation in _fields(schema):
        if section := _section(annotation):
            yield from _leaves(section, f"{prefix}{field.name}.")
        elif named := _named(annotation):
            yield from _leaves(named, f"{prefix}{field.name}.NAME.")
        else:
            yield prefix + field.name, field, annotation


def _annotation(schema: type, keys: Iterable[str]) -> Any:
    """What the value at a path of keys has to be; str where there is no such key."""
    annotation = schema
    for key in keys:
        if named := _named(annotation):
            annotation = named
            continue
        section = _section(annotation)
        fields = {field.name: hint for field, hint in _fields(section)} if section else {}
        if key not in fields:
            return str
        annotation = fields[key]
    return annotation


def _paths(schema: type) -> list[str]:
    return [path for path, _, _ in _leaves(schema)]


def _default(field: dataclasses.Field) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return _MISSING


def _merge(tree, overrides, schema, problems) -> dict[str, Any]:
    """Lays the overrides over the file's values, and computes from them what refers to them."""
    merged = copy.deepcopy(dict(tree))
    followed: dict[int, tuple[str, str]] = {}
    for key, text in overrides.items():
        *parents, leaf = keys = key.split(".")
        node = merged
        for parent in parents:
            if node.get(parent) is None:
                node[parent] = {}
            node = node[parent]
            if not isinstance(node, dict):
                problems.append(f"config.{key}: {parent} is a value, not a section")
                break
        else:
            value, there = _parse(text, _annotation(schema, keys)), node.get(leaf)
            if not isinstance(there, ml_collections.FieldReference):
                node[leaf] = value
                continue
            other, theirs = followed.setdefault(id(there), (key, text))
            if theirs != text:
                problems.append(
                    f"config.{key} and config.{other} are one value in the config file; give one"
                )
            there.set(value, type_safe=False)
    return evaluated(merged, problems)


def _parse(text: str, annotation: Any) -> Any:
    options = _options(annotation)
    if text.lower() == "none" and type(None) in options:
        return None
    if text.lower() in ("true", "false") and bool in options:
        return text.lower() == "true"
    if any(_bare(o) is str or text in typing.get_args(o) for o in options):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        return text


def _build(schema, tree, path, known, problems) -> Any:
    complete = True
    values = {}
    fields = _fields(schema)
    names = [field.name for field, _ in fields]
    for key in tree:
        if key not in names:
            problems.append(_unknown(path, key, names, known))
    for field, annotation in fields:
        here = f"{path}.{field.name}"
        value = tree.get(field.name, _MISSING)
        section = _section(annotation)
        if value is _MISSING and section is not None and _default(field) is _MISSING:
            value = {}
        if value is _MISSING:
            if _default(field) is _MISSING:
                problems.append(f"{here} is missing; expected {_type_name(annotation)}")
                complete = False
            continue
        if section is not None and value is not None:
            built = _build_section(section, _default(field), value, here, known, problems)
        elif named := _named(annotation):
            built = _build_named(named, value, here, known, problems)
        else:
            built = _build_leaf(value, annotation, here, problems)
        if built is _MISSING:
            complete = False
        else:
            values[field.name] = built
    if not complete:
        return _MISSING
    try:
        return schema(**values)
    except (ValueError, TypeError) as error:
        problems.append(f"{path}: {error}")
        return _MISSING


def _build_leaf(value, annotation, here, problems) -> Any:
    try:
        built = _coerce(value, annotation, here)
    except UserError as error:
        problems.append(str(error))
        return _MISSING
    if built is _MISSING:
        problems.append(f"{here} is {value!r}; expected {_type_name(annotation)}")
    return built


def _build_section(section, default, value, here, known, problems) -> Any:
    if isinstance(value, section):
        return value
    if not isinstance(value, Mapping):
        problems.append(f"{here} is {value!r}; expected a section with keys")
        return _MISSING
    if isinstance(default, section):
        value = {f.name: getattr(default, f.name) for f, _ in _fields(section)} | dict(value)
    return _build(section, value, here, known, problems)


def _build_named(section, value, here, known, problems) -> Any:
    """Sections by name, in the order of their names, whatever the order they were given in."""
    if not isinstance(value, Mapping):
        problems.append(f"{here} is {value!r}; expected sections by name")
        return _MISSING
    built = {}
    for name in sorted(value):
        if not _NAME.fullmatch(name):
            problems.append(f"{here}.{name}: a name has letters, digits, - and _ only")
            return _MISSING
        built[name] = _build_section(
            section, _MISSING, value[name], f"{here}.{name}", known, problems
        )
    return _MISSING if any(one is _MISSING for one in built.values()) else built


def _unknown(path: str, key: str, names: list[str], known: list[str]) -> str:
    message = f"{path}.{key} is unknown"
    exact = [p for p in known if p.split(".")[-1] == key]
    # `lr` is how many people write `learning_rate`.
    initials = [n for n in names if "".join(word[:1] for word in n.split("_")) == key]
    near = [f"{path}.{n}" for n in initials or difflib.get_close_matches(key, names, 1, 0.5)]
    leaves = {p.split(".")[-1]: p for p in reversed(known)}
    far = [leaves[name] for name in difflib.get_close_matches(key, leaves, 1, 0.75)]
    for suggestion in (*exact, *near, *far):
        return f"{message}; did you mean {suggestion}?"
    return f"{message}; {path} has {', '.join(names)}"


def _bare(annotation: Any) -> Any:
    """The type in an annotation such as `Annotated[str, …]`."""
    is_annotated = typing.get_origin(annotation) is Annotated
    return typing.get_args(annotation)[0] if is_annotated else annotation


def _coerce(value: Any, annotation: Any, here: str) -> Any:
    """`value` as `annotation` has it, or _MISSING if it does not fit; `here` is its key.

    Raises:
      UserError: for a text that is not the path it has to be.
    """
    for option in _options(annotation):
        if option is type(None) and value is None:
            return None
        if typing.get_origin(option) is Literal:
            for choice in typing.get_args(option):
                if type(value) is type(choice) and value == choice:
                    return choice
        if typing.get_origin(option) is Annotated and type(value) is str:
            return typing.get_args(option)[1](value, here)
        if option in (bool, str) and type(value) is option:
            return value
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if option is int and number and (isinstance(value, int) or value.is_integer()):
            return int(value)
        if option is float and number and abs(value) <= sys.float_info.max:
            return float(value)
        if typing.get_origin(option) is tuple and isinstance(value, list | tuple):
            items = _coerce_items(value, typing.get_args(option), here)
            if items is not _MISSING:
                return items
    return _MISSING


def _coerce_items(value, arguments, here) -> Any:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(arguments) != len(value):
        return _MISSING
    items = tuple(_coerce(v, a, here) for v, a in zip(value, arguments, strict=True))
    return _MISSING if any(item is _MISSING for item in items) else items


def _type_name(annotation: Any) -> str:
    names = []
    for option in map(_bare, _options(annotation)):
        if option is type(None):
            names.append("None")
        elif typing.get_origin(option) is Literal:
            names.append(" | ".join(repr(choice) for choice in typing.get_args(option)))
        elif typing.get_origin(option) is tuple:
            names.append(str(tuple[tuple(map(_bare, typing.get_args(option)))]))
        else:
            names.append(getattr(option, "__name__", str(option)))
    return " | ".join(names)
