"""How far the host runs ahead of the device."""

import collections
from collections.abc import Iterable, Iterator
from typing import TypeVar

IN_FLIGHT = 2
"""Computations handed to the device beyond the one that the host waits for: enough to keep it
busy, few enough that batches do not pile up in its memory."""

_Dispatched = TypeVar("_Dispatched")


def in_flight(dispatched: Iterable[_Dispatched]) -> Iterator[_Dispatched]:
    """Hands on what was dispatched, in order, each when the next `IN_FLIGHT` are dispatched too.

    The caller waits for what it gets before it asks for more, which is all that bounds how much
    runs at once. On CPUs, several processes that do not wait block each other: their transfers
    share a few threads.

    Args:
      dispatched: goes over the batches and dispatches the work on one each time it is advanced.
    """
    waiting = collections.deque()
    for one in dispatched:
        waiting.append(one)
        if len(waiting) > IN_FLIGHT:
            yield waiting.popleft()
    yield from waiting
