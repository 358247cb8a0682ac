"""What an evaluation has to say beside its metrics."""

import logging

from distill.parallel import distributed

_log = logging.getLogger(__name__)


class Notes:
    """Says each thing once, however often it is found, and once for all processes."""

    def __init__(self):
        self._said: set[str] = set()

    def say(self, message: str) -> None:
        """Logs a message that was not said before."""
        if message not in self._said and distributed.is_primary():
            _log.warning(message)
        self._said.add(message)
