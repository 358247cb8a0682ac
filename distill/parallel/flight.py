"""How far the host runs ahead of the device: the one place that bounds it."""

import collections
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import jax

IN_FLIGHT = 2
"""Computations handed to the device beyond the one that the host waits for: enough to keep it
busy, few enough that batches do not pile up in its memory."""

_Dispatched = TypeVar("_Dispatched")


class Flight:
    """Computations that were handed to the device, of which no more than a few still run.

    On CPUs, several processes that do not wait block each other for ever: a device runs a few
    computations at once, and those that wait for what others have not begun yet take all places.
    """

    def __init__(self):
        self._running = collections.deque()

    def add(self, results: Any) -> Any:
        """Adds what a computation gives; returns when all but the last `IN_FLIGHT` are done.

        Args:
          results: a pytree; what in it is no array of a device is passed over.

        Returns:
          The results that were waited for, None as long as there are few.
        """
        self._running.append(results)
        if len(self._running) > IN_FLIGHT:
            return jax.block_until_ready(self._running.popleft())
        return None

    def land(self) -> Iterator[Any]:
        """The results that are left, in order, each once it is done."""
        while self._running:
            yield jax.block_until_ready(self._running.popleft())


def in_flight(dispatched: Iterable[_Dispatched]) -> Iterator[_Dispatched]:
    """Hands on what was dispatched, in order, each when it is done and the next are dispatched.

    Whatever goes over batches does so through this, or through a `Flight` of its own.

    Args:
      dispatched: goes over the batches and dispatches the work on one each time it is advanced.
    """
    flight = Flight()
    for number, one in enumerate(dispatched):
        done = flight.add(one)
        if number >= IN_FLIGHT:
            yield done
    yield from flight.land()
