"""What a config's keys are, for `--help`."""

from distill.config.schema import MISSING, default_of, leaves
from distill.config.values import type_name


def describe(schema: type) -> list[tuple[str, str, str]]:
    """Rows (key, type, default) for every leaf of a schema, for `--help`."""
    rows = []
    for path, field, annotation in leaves(schema):
        default = "required" if default_of(field) is MISSING else repr(default_of(field))
        rows.append((path, type_name(annotation), default))
    return rows
