"""What is another thing in one config than in another."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any


def differences(
    there: Mapping[str, Any], here: Mapping[str, Any], may_change: Collection[str] = ()
) -> dict[str, tuple[Any, Any]]:
    """Keys such as `train.batch_size` whose values differ, with the values there and here.

    Args:
      there: a resolved config, as JSON can hold it.
      here: another.
      may_change: keys or whole sections that do not count; a `*` is any one name.
    """
    return {
        key: values
        for key, values in _differences(there, here)
        if not any(_covers(allowed, key) for allowed in may_change)
    }


def _covers(allowed: str, key: str) -> bool:
    wanted, parts = allowed.split("."), key.split(".")
    return len(wanted) <= len(parts) and all(
        name in ("*", part) for name, part in zip(wanted, parts, strict=False)
    )


def _differences(
    there: Any, here: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Keys such as train.batch_size with the values there and here, where they differ."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted(there.keys() | here.keys()):
            yield from _differences(there.get(key), here.get(key), (*path, key))
    elif there != here:
        yield ".".join(path), (there, here)
