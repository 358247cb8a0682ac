"""Configs as JSON has them, and those that earlier versions recorded."""

import dataclasses
from typing import Any

from distill.config.schema import MISSING, default_of, implied_by, upgraded
from distill.config.tagged import labels


def to_dict(config: Any) -> dict[str, Any]:
    """The config as nested dicts and lists, as JSON has them.

    An entry of a dict's default that the config does not have is None, which takes it away.
    """
    return _plain(config)


def stated(config: Any) -> dict[str, Any]:
    """As `to_dict`, without values that follow from others of their section.

    What it is laid under may change those, and what follows from them with them.
    """
    return _stated(config, to_dict(config))


def _stated(config: Any, plain: Any) -> Any:
    if isinstance(config, dict):
        return plain | {key: _stated(value, plain[key]) for key, value in config.items()}
    if not dataclasses.is_dataclass(config):
        return plain
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    implied = implied_by(type(config), values)
    return {
        key: _stated(value, plain[key])
        for key, value in values.items()
        if implied.get(key, MISSING) != value
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {f.name: _plain_field(f, getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _plain_field(field: dataclasses.Field, value: Any) -> Any:
    plain, default = _plain(value), default_of(field)
    if isinstance(value, dict) and isinstance(default, dict):
        plain |= dict.fromkeys(sorted(default.keys() - value.keys()))
    return plain


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
    if any(recorded.get(tag, label) != label for tag, label in labels(type(config)).items()):
        return recorded
    found = upgraded(type(config), recorded)
    found = implied_by(type(config), found) | found
    for field in dataclasses.fields(config):
        if field.name in found:
            found[field.name] = with_defaults(getattr(config, field.name), found[field.name])
        elif (default := default_of(field)) is not MISSING:
            found[field.name] = _plain(default)
    return found
