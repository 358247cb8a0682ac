"""What a run prints, kept in its workdir."""

import contextlib
import logging
import re
import sys
import traceback
from collections.abc import Iterator

from distill.errors import UserError
from distill.parallel import distributed
from distill.parallel.printed import PRINTED
from distill.train.signals import Terminated
from distill.train.workdir import Workdir

FILE = "train.log"

# Escape sequences as ECMA-48 has them, and control characters other than tab and newline.
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")


class PlainFormatter(logging.Formatter):
    """A message as it is, or "warning: message"; when and where in the code, no user asks."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        message = super().format(record)
        if record.levelno <= logging.INFO:
            return message
        return f"{record.levelname.lower()}: {message}"


@contextlib.contextmanager
def train_log(*workdirs: Workdir) -> Iterator[None]:
    """Appends progress lines, messages, warnings and the error at the end to train.log.

    What is printed before a workdir is claimed is written when it is: a workdir that turns out to
    be another run's is left alone. Only the primary process writes. Where it cannot, it says so
    once, and the run goes on.
    """
    logs = [_TrainLog(workdir) for workdir in workdirs]
    with contextlib.ExitStack() as stack:
        for logger in (PRINTED, logging.getLogger()):
            for handler in logs:
                logger.addHandler(handler)
                stack.callback(logger.removeHandler, handler)
        try:
            yield
        except BaseException as error:
            PRINTED.info(explain(error))
            raise


def explain(error: BaseException) -> str:
    """What is said of an error that ends a command: the message of one that a user can mend."""
    if isinstance(error, UserError):
        return f"error: {error}" if error.exit_code else str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, Terminated):
        return f"stopped by {error.name}"
    return "".join(traceback.format_exception(error)).rstrip()


class _TrainLog(logging.Handler):
    """Appends records to the train.log of a workdir, once that is claimed."""

    def __init__(self, workdir: Workdir):
        super().__init__()
        self.setFormatter(PlainFormatter())
        self._workdir = workdir
        self._waiting: list[str] = []
        self._failed = False

    def emit(self, record: logging.LogRecord) -> None:
        if not distributed.is_primary():
            return
        self._waiting.append(_CONTROL.sub("", self.format(record)))
        if self._workdir.claimed:
            self._append("".join(f"{line}\n" for line in self._waiting))
            self._waiting.clear()

    def _append(self, lines: str) -> None:
        file = self._workdir.path / FILE
        try:
            with file.open("a", encoding="utf-8", errors="backslashreplace") as opened:
                opened.write(lines)
        except OSError as error:
            if not self._failed:
                print(f"warning: cannot write to {file}: {error.strerror}", file=sys.stderr)
            self._failed = True
