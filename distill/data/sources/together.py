"""What opening several splits of one source has in common, found once.

It is kept only while they are opened, so that who opens them later looks again.
"""

import contextlib
import contextvars
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

_found: contextvars.ContextVar[dict[Hashable, Any] | None] = contextvars.ContextVar(
    "found", default=None
)


@contextlib.contextmanager
def opened_together() -> Iterator[None]:
    """While it lasts, `once` keeps what it finds; in another that lasts longer, as long as that."""
    if _found.get() is not None:
        yield
        return
    token = _found.set({})
    try:
        yield
    finally:
        _found.reset(token)


def once(key: Hashable, find: Callable[[], T]) -> T:
    """What `find` returns, or did for this key while sources are `opened_together`.

    Who is given it does not change it, unless it is made to be added to.
    """
    found = _found.get()
    if found is None:
        return find()
    if key not in found:
        found[key] = find()
    return found[key]
