"""Whole examples of a source in order, read by threads ahead of whoever looks at them."""

import collections
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from distill.data.loader import CorruptionMonitor
from distill.data.sources import CorruptImage, Source
from distill.data.spec import Example, read_example
from distill.data.workers import chosen_threads


def read_ahead(
    source: Source,
    indices: Iterable[int],
    *,
    max_corrupt_share: float,
    threads: int | None = None,
) -> Iterator[tuple[int, Example]]:
    """Goes through examples, not views of them; at most two for each thread are in memory.

    Args:
      source: where they are.
      indices: which of them, in which order.
      max_corrupt_share: see `DataConfig`.
      threads: see `DataConfig`.

    Yields:
      The index and the example of each that can be decoded.

    Raises:
      RunFailed: if too many cannot, or one is not what its source says.
    """
    monitor = CorruptionMonitor(source, max_corrupt_share)
    count = chosen_threads(threads, source)
    waiting: collections.deque[tuple[int, Future[Example | None]]] = collections.deque()
    with ThreadPoolExecutor(count, "read-ahead") as pool:
        try:
            remaining = iter(indices)
            while True:
                while len(waiting) < 2 * count and (index := next(remaining, None)) is not None:
                    waiting.append((int(index), pool.submit(_read, source, int(index))))
                if not waiting:
                    return
                index, future = waiting.popleft()
                example = future.result()
                skipped = index if example is None else -1
                monitor.check(
                    {"mask": np.array([example is not None]), "skipped": np.array([skipped])}
                )
                if example is not None:
                    yield index, example
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _read(source: Source, index: int) -> Example | None:
    try:
        example = read_example(source, index)
        return {**example, "image": np.asarray(example["image"])}
    except CorruptImage:
        return None
