"""References between the keys of a config file, which follow what overrides change.

A file may say `config.train.eval_every = config.train.get_ref("log_every") * 10`, or
`lr = ml_collections.FieldReference(1e-3)` and `3.0 * lr` elsewhere. What it returns is a tree of
dicts in which such values stay `ml_collections.FieldReference`s until the overrides are known.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from ml_collections import ConfigDict, FieldReference

# ml_collections is loaded where there is a config: the library's dataclasses do without.
_MISSING = object()


def tree_of(config: "ConfigDict | Mapping[str, Any]") -> dict[str, Any]:
    """A config as nested dicts; a section that several keys refer to is one dict."""
    return _tree(config, {})


def is_reference(value: Any) -> "TypeGuard[FieldReference]":
    """Whether a value is computed once the overrides are known."""
    from ml_collections import FieldReference

    return isinstance(value, FieldReference)


def _tree(config: Any, shared: dict[int, dict[str, Any]]) -> dict[str, Any]:
    from ml_collections import ConfigDict

    if not isinstance(config, ConfigDict):
        items = config.items()
    else:
        items = config.items(preserve_field_references=True)
    return {key: _node(value, shared) for key, value in items}


def _node(value: Any, shared: dict[int, dict[str, Any]]) -> Any:
    from ml_collections import ConfigDict

    if isinstance(value, ConfigDict | Mapping):
        return _tree(value, shared)
    if is_reference(value) and not isinstance(value.get_type(), tuple):
        if not issubclass(value.get_type(), ConfigDict):
            return value
        section = value.get()
        if id(section) not in shared:
            shared[id(section)] = _tree(section, shared)
        return shared[id(section)]
    return value


def evaluated(tree: Mapping[str, Any], problems: list[str], path: str = "config") -> dict[str, Any]:
    """The tree with values in place of references; a required one without a value is left out.

    Args:
      tree: as `tree_of` returns it.
      problems: gets a line for each that cannot be computed.
      path: of the tree, for these lines.
    """
    found = {key: _value(value, problems, f"{path}.{key}") for key, value in tree.items()}
    return {key: value for key, value in found.items() if value is not _MISSING}


def _value(value: Any, problems: list[str], path: str) -> Any:
    from ml_collections.config_dict import RequiredValueError

    if isinstance(value, Mapping):
        return evaluated(value, problems, path)
    if isinstance(value, list | tuple):
        return type(value)(_value(item, problems, path) for item in value)
    if not is_reference(value):
        return value
    try:
        return value.get()
    except RequiredValueError:
        return _MISSING
    except (TypeError, ValueError, ArithmeticError) as error:
        problems.append(f"{path} is computed from another key, which fails: {error}")
        return _MISSING
