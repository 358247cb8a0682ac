"""Where files of sources lie, by their paths."""

import os

from distill.data.sources.base import printable
from distill.data.sources.bucket_files import bucket_files
from distill.data.sources.local_files import LocalFiles
from distill.data.sources.storage import Storage
from distill.errors import UserError
from distill.paths import bucket_of

__all__ = ["joined", "read_if_there", "storage_of"]

_LOCAL = LocalFiles()


def storage_of(path: str) -> Storage:
    """What a file or folder lies in: the bucket that its path names, or this machine's file system.

    Raises:
      UserError: if the bucket may not be used.
    """
    bucket = bucket_of(path)
    return bucket_files(bucket) if bucket else _LOCAL


def read_if_there(path: str) -> bytes | None:
    """A file's content; None if there is no such file.

    Raises:
      UserError: if it cannot be read.
    """
    try:
        with storage_of(path).open(path) as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{printable(path)} cannot be read: {error.strerror}") from error


def joined(folder: str, path: str) -> str:
    """A path from a folder, where it is not a whole one or one in a bucket."""
    return path if bucket_of(path) else os.path.join(folder, path)
