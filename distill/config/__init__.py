"""From a config file and `--config.a.b=value` overrides to checked dataclasses.

The dataclasses are the vocabulary: a config file may say no more than they declare, and need say
no more than differs from their defaults. Whatever is wrong with a config is reported in one
`ConfigError`: unknown keys with the nearest valid name, wrong types, impossible values.
"""

from distill.config.build import resolve
from distill.config.execution import execution_keys, how_it_runs
from distill.config.files import load_file
from distill.config.help import describe
from distill.config.problems import ConfigError
from distill.config.record import stated, to_dict, with_defaults
from distill.config.tagged import OneOf
from distill.config.values import KnownNames

__all__ = [
    "ConfigError",
    "KnownNames",
    "OneOf",
    "describe",
    "execution_keys",
    "how_it_runs",
    "load_file",
    "resolve",
    "stated",
    "to_dict",
    "with_defaults",
]
