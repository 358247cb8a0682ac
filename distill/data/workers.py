"""Processes that decode: how many, and how they begin and end."""

import contextlib
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import resource_tracker

import grain

from distill.data.examples import Batch
from distill.data.sources import Source
from distill.data.sources.base import is_remote

HostBatches = grain.DatasetIterator[Batch] | Generator[Batch, None, None]
"""An iterator of batches that lets go of its threads and processes when it is closed."""

# A worker for so many cores, each of which decodes in as many threads by default. Python's own
# share of the work keeps one process from using many more.
_CORES = 4
# Of fewer images an epoch is over about when workers have started.
_FEWEST = 10_000
_THREADS = 4
# An image in a bucket comes some 30 ms after it was asked for, and takes 2 to decode.
_WAITING_THREADS = 32

_in_a_command = False


def allow_workers() -> None:
    """Says that this process is a command, whose main module a worker can import."""
    global _in_a_command
    _in_a_command = True


def chosen_workers(asked: int | None, images: int) -> int:
    """How many processes decode.

    Args:
      asked: as `config.data.workers` says; None leaves it to what there is. A program of a user's
        own has none then: importing its main module may do anything.
      images: of the source.
    """
    if asked is not None:
        return asked
    if not _in_a_command or images < _FEWEST or cores() < 2 * _CORES:
        return 0
    return cores() // _CORES


def chosen_threads(asked: int | None, source: Source) -> int:
    """How many threads read and decode, in each process.

    Args:
      asked: as `config.data.threads` says; None leaves it to where the images lie.
      source: of the images.
    """
    if asked is not None:
        return asked
    return _WAITING_THREADS if is_remote(source) else _THREADS


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def with_unsignalled_workers(iterator: HostBatches) -> HostBatches:
    """The same batches, from workers that end when their parent says so, and not before.

    Ctrl-C reaches every process of a terminal, and SIGTERM often all of a job. The parent still
    needs batches to stop well, and to take back the memory that workers share with it; and one that
    starts a worker waits for ever for a worker that ends before it is ready. What a thread blocks,
    the threads and processes it starts block from their beginning. Grain starts them when the first
    batch is asked for.
    """
    try:
        with (
            contextlib.closing(iterator),
            ThreadPoolExecutor(1, "first batch", initializer=_block_signals) as starting,
        ):
            first = starting.submit(next, iterator, None).result()
            if first is not None:
                yield first
                yield from iterator
    finally:
        # Grain's end of data refers to itself and to the last arrays in shared memory. Were they
        # found only when Python ends, nobody would give the memory back.
        gc.collect()


def _block_signals() -> None:
    # Starting it unblocks signals in the thread that does.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


def begin_worker(worker: int, workers: int) -> None:
    """What Grain runs first in a worker."""
    del worker, workers
    end_with_the_parent()


def end_with_the_parent() -> None:
    """Has this process end when its parent does.

    A parent that was killed says nothing, and a worker would wait for it for ever.
    """
    threading.Thread(target=_wait_for_the_parent, daemon=True).start()


def _wait_for_the_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
    os._exit(1)
