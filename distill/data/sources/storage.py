"""What a source asks of where its files lie.

`distill.data.sources.places` has both answers: this machine's file system, and buckets.
"""

from collections.abc import Hashable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, NamedTuple, Protocol

from distill.data.sources.base import printable
from distill.data.sources.image_index import Shard
from distill.errors import RunFailed


class Status(NamedTuple):
    """What tells whether a file is as it was."""

    size: int
    """In bytes; `UNKNOWN` where only reading tells."""
    version: int
    """In nanoseconds since 1970 when it was changed; of an object, a number of its content."""


class Entries(NamedTuple):
    """What lies directly in a folder, in any order, hidden files too."""

    folders: list[str]
    files: list[str]
    others: Mapping[str, int]
    """What is neither, counted by what it is."""


class OpenFile(Protocol):
    """A file that is read from front to back, more or less."""

    size: int
    """In bytes, as far as is known: what has been read, and all of it once `reaches` said no."""

    def read(self, size: int, offset: int) -> bytes:
        """A part of the file, shorter where it ends."""
        ...

    def reaches(self, end: int) -> bool:
        """Whether it has so many bytes."""
        ...


class Storage(Protocol):
    """Files by their paths, in folders.

    Whatever fails for a while is tried again. All methods may be called from any thread.

    Raises:
      RunFailed: from any method, if something cannot be read, also later.
      UserError: from any method, if it may not be used.
    """

    is_remote: bool
    """Whether reading a file is to wait for a network, so that many have to be on their way."""

    def check_reachable(self, path: str, what: str) -> None:
        """Checks that a path, of what errors call `what`, could be one; it need not exist."""
        ...

    def exists(self, path: str) -> bool:
        """Whether there is a file or a folder."""
        ...

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder."""
        ...

    def missing(self, paths: Iterable[str]) -> list[str]:
        """The paths at which there is no file."""
        ...

    def names(self, folder: str) -> list[str]:
        """What files and folders in a folder are called, with `OSError` if it cannot be listed."""
        ...

    def entries(self, folder: str) -> Entries:
        """What lies directly in a folder."""
        ...

    def identity(self, folder: str) -> Hashable:
        """By which a folder is known again under another name."""
        ...

    def matching(self, pattern: str) -> list[str]:
        """The paths that a pattern of the shell stands for, sorted."""
        ...

    def status(self, path: str) -> Status:
        """What tells a file from what it may become."""
        ...

    def known(self, path: str) -> Status:
        """As `status`, or `UNKNOWN` and 0 where that would have to be asked for over a network."""
        ...

    def has_size(self, path: str, size: int) -> bool:
        """Whether there is a file of this size, at least 1."""
        ...

    def local_copy(self, path: str, place: str) -> str:
        """The path of a file on this machine: its own, or of a copy that is put at `place` once."""
        ...

    def open(self, path: str) -> BinaryIO:
        """A file to be read once, from its beginning, with `OSError` if there is none."""
        ...

    def read(self, path: str) -> bytes:
        """A file's content."""
        ...

    def read_part(self, path: str, shard: Shard, offset: int, length: int) -> bytes:
        """A part of a shard that is as it was when it was indexed."""
        ...

    def read_end(self, path: str, shard: Shard, length: int) -> bytes:
        """The last bytes of a shard that is as it was, all of a shorter one."""
        ...

    def end(self, path: str, shard: Shard, least: int) -> int:
        """The size of a shard that is as it was, which has at least so many bytes."""
        ...

    def opened(self, path: str, shard: Shard) -> AbstractContextManager[OpenFile]:
        """A shard that is as it was, to be indexed."""
        ...

    def seekable(self, path: str, shard: Shard) -> Any:
        """A shard that is as it was, as libraries take it: a path, or a file object."""
        ...

    def index_place(self, root: str, name: str) -> str | None:
        """Where an index of a folder's shards lies beside them; None where nothing is written."""
        ...

    def real(self, path: str) -> str:
        """The path by which an index is known that lies elsewhere."""
        ...


def changed(path: str, how: str) -> RunFailed:
    """The error for a shard that is not as it was when it was indexed."""
    return RunFailed(
        f"{printable(path)} has changed since it was indexed: {how}. Run the command again, which "
        "indexes it anew"
    )
