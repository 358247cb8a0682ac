"""What libraries say by themselves, as far as a user needs to hear it."""

import logging as stdlib_logging
import sys
from typing import Any

from absl import flags, logging

from distill.terminal import TERMINAL
from distill.train.train_log import PlainFormatter
from distill.unwritten import is_of_storage


def quieten_libraries() -> None:
    """Warnings, but not those that Orbax gives for opening a directory read-only.

    What keeps a checkpoint from being written in the background is raised again where it is waited
    for, and told there: the traces of the threads that met it are not shown.
    """
    flags.FLAGS.mark_as_parsed()
    logging.use_absl_handler()
    handler = logging.get_absl_handler()
    handler.setFormatter(PlainFormatter())
    handler.addFilter(_make_room)
    logging.set_verbosity(logging.WARNING)
    logging.get_absl_logger().addFilter(_is_news)
    stdlib_logging.getLogger("asyncio").addFilter(_is_news)
    before = sys.unraisablehook

    def tell_unraisable(told: Any) -> None:
        # TensorStore's other writes, which end when nobody waits for them any more.
        if str(told.exc_value) != "Event loop is closed":
            before(told)

    sys.unraisablehook = tell_unraisable


def _make_room(record: stdlib_logging.LogRecord) -> bool:
    """Lets every record through, and nothing live stand where it is about to be printed."""
    del record
    TERMINAL.give_way()
    return True


def _is_news(record: stdlib_logging.LogRecord) -> bool:
    if "orbax" in record.pathname and record.levelno < stdlib_logging.ERROR:
        return False
    if "orbax" not in record.pathname and record.name != "asyncio":
        return True
    # What a thread raised is raised again where it is waited for, and may be no more than what
    # follows from a file that another thread could not write.
    if record.pathname.endswith("futures/future.py"):
        return False
    error = record.exc_info[1] if record.exc_info else None
    # A thread that goes on writing in a process that has said why it ends.
    late = isinstance(error, RuntimeError) and "new futures after" in str(error)
    gone = isinstance(error, FileNotFoundError)
    return not (gone or late or is_of_storage(f"{record.getMessage()} {error}"))
