"""Tars of images that are read by an index."""

import io
import tarfile
from pathlib import Path

# What a member's name says of its content to whoever unpacks a tar.
_SUFFIXES = {b"\xff\xd8": "jpg", b"\x89P": "png", b"RI": "webp"}


class TarWriter:
    """Writes images one after another, as members that are called by their number from 0.

    Raises:
      OSError: from any method, if the file cannot be written.
    """

    def __init__(self, file: Path):
        self._tar = tarfile.TarFile(file, "w", format=tarfile.USTAR_FORMAT)
        self._count = 0

    def write(self, data: bytes) -> int:
        """Adds an image; returns where in the file its bytes begin."""
        suffix = _SUFFIXES.get(data[:2], "image")
        member = tarfile.TarInfo(f"{self._count:08}.{suffix}")
        member.size = len(data)
        self._count += 1
        offset = self._tar.offset + tarfile.BLOCKSIZE
        self._tar.addfile(member, io.BytesIO(data))
        return offset

    def close(self) -> None:
        """Writes the mark at the end of a tar."""
        self._tar.close()
