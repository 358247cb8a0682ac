"""Commands of the project in children of this process, which has imported all they need."""

import contextlib
import dataclasses
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.chaos.fault import HUNG, TRACEBACK

_POLL = 0.005


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a child ended."""

    code: int | None
    """Its exit status, below zero of a signal; None if it had to be ended after its time."""
    output: str
    """All that it printed."""
    seconds: float

    @property
    def fault(self) -> str | None:
        """`HUNG`, `TRACEBACK` for what is no result and no message, or None."""
        if self.code is None:
            return HUNG
        said = "Traceback (most recent" in self.output or "Fatal Python error" in self.output
        refused = self.code in (1, 2) and "error: " in self.output
        return None if not said and (self.code == 0 or refused) else TRACEBACK

    @property
    def last(self) -> str:
        """The end of what it printed."""
        return f"exit status {self.code}: {self.output[-1500:].strip()}"


def forked(body: Callable[[], int | None], log: Path) -> int:
    """Runs `body` in a child, whose output goes to a file; the child's id.

    It ends with what `body` returns, or 1 and a traceback.
    """
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with log.open("ab") as out:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
        code = body() or 0
        # Threads that do not end would keep a program from ending.
        threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
        # As JAX ends a process of several: it waits for the others.
        if "jax" in sys.modules:
            sys.modules["jax"].distributed.shutdown()
    except BaseException:  # noqa: BLE001
        # As Python would end.
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def waited(pid: int, seconds: float) -> int | None:
    """The exit status of a child, below zero of a signal; None if it is there after a time."""
    end = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            return None
        time.sleep(_POLL)


def end(pid: int, number: int) -> None:
    """Sends a child a signal, if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def run(
    body: Callable[[], int | None],
    log: Path,
    *,
    seconds: float,
    kill_after: float | None = None,
) -> Ended:
    """Runs `body` in a child until it ends.

    Args:
      body: as `forked` has it.
      log: a file for its output.
      seconds: after which it has hung.
      kill_after: seconds after which it is killed.
    """
    log.unlink(missing_ok=True)
    begun = time.monotonic()
    pid = forked(body, log)
    code = waited(pid, seconds if kill_after is None else kill_after)
    if code is None:
        os.kill(pid, signal.SIGKILL)
        killed = waited(pid, 60)
        code = None if kill_after is None else killed
    output = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return Ended(code, output, time.monotonic() - begun)


def command(
    arguments: Sequence[str],
    before: Callable[[], None] | None = None,
    after: Callable[[], None] | None = None,
) -> Callable[[], int | None]:
    """What runs `distill ARGUMENTS` in a child.

    Args:
      arguments: of the command line.
      before: is called in the child first.
      after: is called if the command ended with 0.
    """

    def body() -> int | None:
        from pipelines import cli

        sys.argv = ["distill", *arguments]
        if before:
            before()
        code: int | None = 0
        try:
            cli.main()
        except SystemExit as end:
            if end.code is not None and not isinstance(end.code, int):
                print(end.code, file=sys.stderr)
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if after and not code:
            after()
        return code

    return body
