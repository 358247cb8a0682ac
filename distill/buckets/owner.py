"""One process at work in a bucket's directory: an object that says whose it is."""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from distill.buckets.bucket import Bucket
from distill.buckets.copies import ABOUT
from distill.errors import RunFailed, UserError

OWNER = f"{ABOUT}owner.json"

BEAT = 15.0
"""Seconds between signs of life."""
SILENCE = 90.0
"""Seconds without one after which another process may take over, on another machine."""


class Owner:
    """Holds a bucket's directory and says so every `BEAT` seconds, until it is released.

    Of two that begin within the same second, the one that wrote last goes on, and the other finds
    out at once or with its next sign of life. Clocks have to agree within a minute.

    Args:
      bucket: of the directory.
      lost: is told, in a thread, of the error that ended the holding.

    Raises:
      UserError: if another process is at work there.
    """

    def __init__(self, bucket: Bucket, lost: Callable[[UserError], None]):
        self._bucket, self._lost = bucket, lost
        self._token = uuid.uuid4().hex
        self._released = threading.Event()
        there = self._read()
        if there and _alive(there):
            raise UserError(
                f"another process is at work in {bucket.url}: {there['pid']} on {there['host']}, "
                f"whose last sign of life came {time.time() - there['beat']:.0f} seconds ago. Stop "
                f"it, or choose another --workdir; if it was killed, wait until {SILENCE:.0f} "
                "seconds have passed"
            )
        self._beat()
        self._check()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def abandon(self) -> None:
        """Gives no further sign of life, and asks nothing of the bucket."""
        self._released.set()

    def release(self) -> None:
        """Lets others in; if they are in already, they stay."""
        self._released.set()
        self._thread.join()
        if (self._read() or {}).get("token") == self._token:
            self._bucket.delete(OWNER)

    def _live(self) -> None:
        while not self._released.wait(BEAT):
            try:
                self._check()
                self._beat()
            except UserError as error:
                self._lost(error)
                return

    def _check(self) -> None:
        there = self._read()
        if there is None or there.get("token") != self._token:
            raise RunFailed(
                f"another process has taken over {self._bucket.url}"
                + (f": {there['pid']} on {there['host']}" if there else "")
            )

    def _beat(self) -> None:
        says = {
            "token": self._token,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "beat": time.time(),
        }
        self._bucket.write(OWNER, json.dumps(says).encode())

    def _read(self) -> dict[str, Any] | None:
        content = self._bucket.read(OWNER)
        try:
            return None if content is None else json.loads(content)
        except ValueError as error:
            raise UserError(f"{self._bucket.url}/{OWNER} is damaged; delete it") from error


def _alive(there: dict[str, Any]) -> bool:
    if time.time() - there["beat"] > SILENCE:
        return False
    if there["host"] != socket.gethostname():
        return True
    try:
        os.kill(there["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
