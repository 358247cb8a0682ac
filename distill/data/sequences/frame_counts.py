"""How many frames videos have, counted once on a machine and kept in the user's cache.

What a container's header says of it may be wrong, or nothing, and files are not turned away for
it: frames are counted by decoding. A count is kept by the file's path from the folder, its size and
time of change, what decoded it and how large a frame could be; one that cannot be kept is made
again.
"""

import json
import logging
import os
from collections.abc import Callable, Hashable
from pathlib import Path

import numpy as np

from distill.data.sources.base import printable
from distill.data.sources.file_table import FileTable
from distill.data.sources.folders import asked
from distill.data.sources.indexing import cached_place

_FILE = "frames-of-videos.jsonl"


class FrameCounts:
    """The counts of the videos of a folder.

    Args:
      root: the folder, on this machine.
      files: the videos.
      by: what else a count depends on, as JSON can hold it.
    """

    def __init__(self, root: str, files: FileTable, by: list[Hashable]):
        self._place, self._files, self._by = Path(cached_place(root, _FILE)), files, by
        self._known: dict[tuple[Hashable, ...], int] | None = None
        self._sizes = self._times = np.empty(0, np.int64)

    def count(self, index: int, counted: Callable[[], int]) -> int:
        """The frames of a video, from what is kept or `counted`, which is then kept."""
        if self._known is None:
            sizes, times = asked(self._files)
            self._sizes, self._times = (np.frombuffer(one, "<i8") for one in (sizes, times))
            self._known = self._read()
        name = printable(self._files.relative_path(index))
        key = (name, int(self._sizes[index]), int(self._times[index]), *self._by)
        if key not in self._known:
            self._known[key] = counted()
            self._keep(key, self._known[key])
        return self._known[key]

    def _read(self) -> dict[tuple[Hashable, ...], int]:
        """What is kept; lines that say nothing, as a kill leaves them, are passed over."""
        found: dict[tuple[Hashable, ...], int] = {}
        try:
            lines = self._place.read_bytes().splitlines()
        except OSError:
            return found
        for line in lines:
            try:
                *key, count = json.loads(line)
                if type(count) is int and count > 0:
                    found[tuple(key)] = count
            except (ValueError, TypeError, RecursionError):
                continue
        return found

    def _keep(self, key: tuple[Hashable, ...], count: int) -> None:
        # One write to the end, so that lines of several processes do not mix.
        line = ("\n" + json.dumps([*key, count]) + "\n").encode()
        try:
            self._place.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._place, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(file, line)
            finally:
                os.close(file)
        except OSError as error:
            logging.getLogger(__name__).warning(
                "%s cannot be written (%s): frames are counted again", self._place, error.strerror
            )
