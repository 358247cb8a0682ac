"""What Orbax warns of where a checkpoint is read, which nobody need hear."""

import contextlib
import logging as stdlib_logging
from collections.abc import Iterator

from absl import logging


@contextlib.contextmanager
def orbax_quiet() -> Iterator[None]:
    """Leaves out what Orbax warns of, while entered; all else of logging is as it was."""
    logger = logging.get_absl_logger()
    # Of its own, as one may be entered within another.
    told = _Told()
    logger.addFilter(told)
    try:
        yield
    finally:
        logger.removeFilter(told)


class _Told(stdlib_logging.Filter):
    def filter(self, record: stdlib_logging.LogRecord) -> bool:
        return "orbax" not in record.pathname or record.levelno >= stdlib_logging.ERROR
