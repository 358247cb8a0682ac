"""Runs in processes, as many at a time as there are cores, each on a core of its own.

Models this small compute no faster on two cores than on one, so that two at once take half the
time.
"""

import concurrent.futures
import concurrent.futures.process
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.claims.runs import Run
from distill.data.workers import end_with_the_parent
from distill.errors import RunFailed, UserError
from distill.train.progress import format_seconds

# XLA keeps what it has compiled: a process is ended before it has taken too much memory.
_RUNS_OF_A_PROCESS = 25


def perform(runs: Iterable[Run], root: Path, *, jobs: int, seconds: float | None) -> bool:
    """Does what has not been done, those before others that they use.

    Args:
      runs: each of them once or more.
      root: their workdirs' directory.
      jobs: how many at a time.
      seconds: after which none is begun.

    Returns:
      Whether all have come to their end.

    Raises:
      RunFailed: if one cannot.
    """
    left = {run.name: run for run in with_used(runs) if run.finished(root) is None}
    if not left:
        return True
    began, total, done = time.monotonic(), len(left), 0
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--workdir: {root} cannot be made: {error.strerror}") from error
    print(f"claims: {total} runs to do; the first takes a minute or two", file=sys.stderr)
    workers = _Workers(root, jobs)
    with workers:
        running: dict[concurrent.futures.Future, str] = {}
        while left or running:
            late = seconds is not None and time.monotonic() - began > seconds
            for name in list(left):
                if late or len(running) >= jobs:
                    break
                if all(used.finished(root) for _, used in left[name].uses):
                    running[workers.submit(left.pop(name))] = name
            if not running:
                break
            ended, _ = concurrent.futures.wait(
                running, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for one in ended:
                _check_done(one, running.pop(one), root)
            done += len(ended)
            spent = time.monotonic() - began
            eta = format_seconds(spent / done * (total - done))
            print(f"claims: {done} of {total} runs, ETA {eta}", file=sys.stderr, flush=True)
    return not left


def _check_done(ended: concurrent.futures.Future, name: str, root: Path) -> None:
    try:
        failed = ended.result()
    except concurrent.futures.process.BrokenProcessPool as error:
        raise RunFailed(
            f"a process ended before its run did, such as {name}: it was killed, or memory was "
            f"short. What it said is in {root}/process_*.log; the same command goes on"
        ) from error
    if failed:
        raise RunFailed(f"{name}: {failed}")


def with_used(runs: Iterable[Run]) -> list[Run]:
    """The runs and those they use, the used ones first, and first of all what is compiled alone.

    That fails at once where its compiler is missing.
    """
    found: dict[str, Run] = {}

    def add(run: Run) -> None:
        for _, used in run.uses:
            add(used)
        found.setdefault(run.name, run)

    for run in sorted(runs, key=lambda one: not one.compiled_for):
        add(run)
    return list(found.values())


class _Workers:
    """Processes for runs; those that compute something otherwise do nothing else."""

    def __init__(self, root: Path, jobs: int):
        shared: dict[str, Any] = {
            "max_workers": jobs,
            "mp_context": multiprocessing.get_context("spawn"),
            "initializer": _begin,
            "initargs": (root, jobs),
        }
        self._pool = concurrent.futures.ProcessPoolExecutor(
            **shared, max_tasks_per_child=_RUNS_OF_A_PROCESS
        )
        self._apart = concurrent.futures.ProcessPoolExecutor(**shared, max_tasks_per_child=1)
        self._root = root

    def submit(self, run: Run) -> concurrent.futures.Future:
        """Begins a run."""
        pool = self._apart if run.changed else self._pool
        return pool.submit(_perform, run, self._root)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_) -> None:
        for pool in (self._pool, self._apart):
            pool.shutdown(cancel_futures=True)


def _perform(run: Run, root: Path) -> str:
    """What kept it from its end, if anything: as a text, which comes back as it is."""
    try:
        run.perform(root)
    except UserError as error:
        return str(error)
    return ""


def _begin(root: Path, jobs: int) -> None:
    """Gives a process its core, its log and the programs that others have compiled.

    It ends with the one that began it: what it was at goes on at the next start.
    """
    end_with_the_parent()
    if hasattr(os, "sched_setaffinity"):
        there = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {there[_own_number(root, jobs) % len(there)]})
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(root / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    log = os.open(root / f"process_{os.getpid()}.log", os.O_WRONLY | os.O_CREAT, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)


def _own_number(root: Path, jobs: int) -> int:
    """One that no other living process has, below `jobs` where one is free."""
    import fcntl

    for number in range(jobs):
        lock = os.open(root / f"core_{number}.lock", os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            # Held until the process ends.
            return number
    return os.getpid()
