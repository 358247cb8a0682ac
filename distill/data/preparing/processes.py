"""Work on images shared out among processes, which end when they are not waited for."""

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from typing import Any, TypeVar

from distill.data.workers import end_with_the_parent
from distill.errors import RunFailed

Result = TypeVar("Result")
# Seconds between two looks at how far the processes are.
_LOOK = 0.5

# Of this process: what it works on, where it counts images, and whether it is to stop.
_shared: Any = None


class Stopped(Exception):
    """Nobody waits for the result."""


def in_processes(
    work: Callable[..., Result],
    tasks: Sequence[tuple],
    about: tuple,
    workers: int,
    report: Callable[[int], None],
) -> list[Result]:
    """The results of `work(*about, *task, tick)`, in the order of the tasks.

    Args:
      work: a function of a module; `tick(images)` is to be called for what it has done.
      tasks: what differs between calls.
      about: what does not; it is handed to each process once.
      workers: how many processes; 0 works in this one.
      report: is told now and then how many images are done.

    Raises:
      RunFailed: what a process raises, or if one is killed.
    """
    if not workers:
        return _in_this_one(work, tasks, about, report)
    context = multiprocessing.get_context("spawn")
    counter, stop = context.Value("q", 0), context.Event()
    executor = ProcessPoolExecutor(
        min(workers, len(tasks)) or 1, context, _begin, (about, counter, stop)
    )
    try:
        with _unsignalled():
            futures = [executor.submit(_call, work, task) for task in tasks]
        pending = set(futures)
        while pending:
            done, pending = wait(pending, _LOOK, FIRST_EXCEPTION)
            report(counter.value)
            for future in done:
                future.result()
        return [future.result() for future in futures]
    except BrokenProcessPool as error:
        raise RunFailed(
            "a process was killed, by the system if memory ran out. What is finished stays: run "
            "the same command again, with fewer --workers"
        ) from error
    finally:
        stop.set()
        executor.shutdown(cancel_futures=True)


def _in_this_one(
    work: Callable[..., Result],
    tasks: Sequence[tuple],
    about: tuple,
    report: Callable[[int], None],
) -> list[Result]:
    images = 0

    def tick(more: int) -> None:
        nonlocal images
        images += more
        report(images)

    return [work(*about, *task, tick) for task in tasks]


@contextlib.contextmanager
def _unsignalled() -> Iterator[None]:
    """Ctrl-C and a hang-up are for this process, and those that are started here do not hear it."""
    # Starting it lets the signal through.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(about: tuple, counter: Any, stop: Any) -> None:
    global _shared
    end_with_the_parent()
    _shared = about, counter, stop


def _call(work: Callable[..., Result], task: tuple) -> Result:
    about, counter, stop = _shared

    def tick(images: int) -> None:
        with counter.get_lock():
            counter.value += images
        if stop.is_set():
            raise Stopped

    return work(*about, *task, tick)


class Progress:
    """Says how far it is, now and then.

    Args:
      say: takes a line.
      what: is done, such as "prepared".
      total: how many images there are.
      patience: seconds between two lines.
    """

    def __init__(self, say: Callable[[str], None], what: str, total: int, patience: float = 10.0):
        self._say, self._what, self._total, self._patience = say, what, total, patience
        self._began = self._said = time.monotonic()

    def __call__(self, done: int) -> None:
        """Takes up how many are done."""
        now = time.monotonic()
        if now - self._said < self._patience or not done:
            return
        self._said = now
        rate = done / (now - self._began)
        left = round((self._total - done) / rate)
        minutes, seconds = divmod(left, 60)
        self._say(
            f"{self._what} {done:,} of {self._total:,} images ({done / self._total:.0%}), "
            f"{rate:,.0f} a second, ETA {minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
        )
