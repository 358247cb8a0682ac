"""Text files that list what is in a split, a name a line, as Pascal VOC and DAVIS have them."""

import os

from distill.data.sources.base import MissingSplit, abbreviate, printable
from distill.data.sources.layout import named_split
from distill.data.sources.places import read_if_there, storage_of

_SUFFIX = ".txt"


def listed(folder: str, split: str, expected: str) -> tuple[str, list[str]]:
    """The file that lists a split, and the names in it, in its order.

    Args:
      folder: of such files.
      split: its name, or one that stands for it.
      expected: layout, for errors.

    Raises:
      MissingSplit: if there is no such file, or nothing in it.
      UserError: if it cannot be read.
    """
    storage = storage_of(folder)
    files = storage.names(folder) if storage.is_folder(folder) else []
    names = sorted(file[: -len(_SUFFIX)] for file in files if file.endswith(_SUFFIX))
    name = named_split(split, names, printable(folder))
    if name is None:
        raise MissingSplit(
            f"{printable(folder)} has no list {split}{_SUFFIX}; it has "
            f"{abbreviate(tuple(map(printable, names))) or 'none'}. Expected {expected}"
        )
    path = os.path.join(folder, name + _SUFFIX)
    lines = (line.strip() for line in (read_if_there(path) or b"").splitlines())
    found = [os.fsdecode(line) for line in lines if line]
    if not found:
        raise MissingSplit(f"{printable(path)} lists nothing")
    return path, found
