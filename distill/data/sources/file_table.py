"""Paths of millions of files in a few arrays, which cost little to hand to another process."""

import dataclasses
import os
from collections.abc import Iterable, Sequence

import numpy as np

from distill.data.sources.places import joined, storage_of
from distill.data.sources.scanning import Run
from distill.data.sources.storage import Storage

_END = b"\0"


@dataclasses.dataclass(frozen=True, eq=False)
class FileTable:
    """Files under a root, in order."""

    root: str
    folders: tuple[str, ...]
    """Relative to the root, some several times; one that is absolute, or in a bucket, is
    elsewhere."""
    folder: np.ndarray
    """Of each file, the number of its folder, int32 [N]."""
    names: bytes
    """Of all files in their folders, as the file system encodes them, each with a zero after it."""
    ends: np.ndarray
    """Where those zeros are, int64 [N]."""

    @classmethod
    def of(cls, root: str, runs: Iterable[Run]) -> "FileTable":
        """The files that a scan of the root found."""
        runs = list(runs)
        sizes = [len(run.images) for run in runs]
        folder = np.repeat(np.arange(len(runs), dtype=np.int32), sizes)
        # A list that ends with an empty name is joined with a zero after each of the others.
        names = b"".join(os.fsencode("\0".join([*run.images, ""])) for run in runs)
        return cls._made(root, tuple(run.folder for run in runs), folder, names)

    @classmethod
    def of_paths(cls, root: str, paths: Iterable[str]) -> "FileTable":
        """Files by their paths from the root, in the order given."""
        numbers: dict[str, int] = {}
        folder, names = [], []
        for path in paths:
            place, name = os.path.split(path)
            folder.append(numbers.setdefault(place, len(numbers)))
            names.append(name)
        joined = os.fsencode("\0".join([*names, ""]))
        return cls._made(root, tuple(numbers), np.array(folder, np.int32), joined)

    @classmethod
    def _made(
        cls, root: str, folders: tuple[str, ...], folder: np.ndarray, names: bytes
    ) -> "FileTable":
        return cls(
            root, folders, folder, names, np.flatnonzero(np.frombuffer(names, np.uint8) == 0)
        )

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def storage(self) -> Storage | None:
        """What all of the files lie in; None where that differs."""
        found = {storage_of(joined(self.root, folder)) for folder in self.folders}
        return found.pop() if len(found) == 1 else None

    def path(self, index: int) -> str:
        """The file's path."""
        return joined(self.root, self.relative_path(index))

    def relative_path(self, index: int) -> str:
        """The file's path from the root."""
        start = self.ends[index - 1] + 1 if index else 0
        name = os.fsdecode(self.names[start : self.ends[index]])
        return os.path.join(self.folders[self.folder[index]], name)

    def relative(self) -> list[bytes]:
        """All paths from the root, as the file system encodes them."""
        return self._in(self.folders)

    def paths(self) -> list[bytes]:
        """All paths, as the file system encodes them."""
        return self._in([joined(self.root, folder) for folder in self.folders])

    def _in(self, folders: Sequence[str]) -> list[bytes]:
        """Where the files are if these are their folders."""
        encoded = [os.fsencode(os.path.join(folder, "")) for folder in folders]
        names = self.names.split(_END)
        # After the last zero there is one more, empty.
        names.pop()
        numbers = self.folder.tolist()
        return [encoded[number] + name for number, name in zip(numbers, names, strict=True)]

    def take(self, indices: np.ndarray) -> "FileTable":
        """Some of the files, in the order given."""
        names = self.names.split(_END)
        chosen = _END.join([*map(names.__getitem__, indices.tolist()), b""])
        return self._made(self.root, self.folders, self.folder[indices], chosen)
