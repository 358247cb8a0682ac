"""Training examples kept on disk: the view each was seen through, and arrays computed for it.

A store is a directory of ArrayRecord files and `store.json`, which says what their records hold.
Record p belongs to the training example at position p of a run (see `distill.data.examples`).
"""

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter

from distill.data.views import View
from distill.errors import Damaged, RunFailed, UserError
from distill.json_files import read_json, write_json
from distill.moved import Claimed, read_recorded
from distill.paths import check_reachable
from distill.unwritten import cannot_write, naming

DESCRIPTION = "store.json"
_GIB = 2**30
# Records that are read at once.
_READ = 1024

_AGAIN = "Files that are finished stay. Run the same command again to go on after them"
_ANEW = (
    "Put back a copy of the file, or delete it and run the store_targets command again, which "
    "writes what is missing"
)

# Of the image at this position: its epoch and number, the view drawn for (seed, epoch, index), and
# how it was mixed: its partner's number and its own share, 1 where nothing was mixed.
VIEW_FIELDS = (
    ("epoch", "<i8"),
    ("index", "<i8"),
    ("box", "<f8", (4,)),
    ("flip", "?"),
    ("partner", "<i8"),
    ("share", "<f4"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contents:
    """What a store holds."""

    examples: int
    batch_size: int
    """Of the run; `examples` are whole batches."""
    examples_per_file: int
    arrays: Mapping[str, tuple[str, tuple[int, ...]]]
    """Dtype and shape per example, by name."""
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What the arrays were computed from, as JSON can hold it."""

    @property
    def files(self) -> int:
        """Number of files."""
        return -(-self.examples // self.examples_per_file)

    @property
    def record(self) -> np.dtype:
        """The layout of a record."""
        arrays = ((name, dtype, tuple(shape)) for name, (dtype, shape) in self.arrays.items())
        return np.dtype([*VIEW_FIELDS, *arrays])

    def file(self, number: int) -> str:
        """The name of a file."""
        return f"targets-{number:05d}-of-{self.files:05d}.array_record"


class StoreWriter:
    """Writes a store file by file; after an interruption, files that were finished stand.

    Args:
      path: a directory.
      contents: what will be written; of an interrupted store, the same again.

    Raises:
      UserError: if the directory holds a store with other contents, or the disk has no room.
    """

    def __init__(self, path: Path, contents: Contents):
        self._path = path
        self._contents = contents
        self._writer: ArrayRecordWriter | None = None
        description = path / DESCRIPTION
        mine = _to_json(contents)
        with _rewritten():
            there = read_json(description) if description.exists() else mine
        there = Claimed.read(path).aligned(there, mine)
        if there != mine:
            different = sorted(k for k in there.keys() | mine.keys() if there.get(k) != mine.get(k))
            raise UserError(
                f"{path} holds other targets ({', '.join(different)} differ); write to a new "
                "--workdir"
            )
        write_json(description, mine, checked=True)
        finished = 0
        while finished < contents.files and (path / contents.file(finished)).exists():
            finished += 1
        self.position = min(finished * contents.examples_per_file, contents.examples)
        """The next example to write; all before it are in finished files."""
        self._check_room()

    def check(self) -> None:
        """Reads what is in finished files, as its checksums tell whether it is what was written.

        Raises:
          Damaged: if it is not, naming the file.
        """
        each = self._contents.examples_per_file
        for start in range(0, self.position, each):
            file = self._path / self._contents.file(start // each)
            expected = min(each, self.position - start)
            try:
                records = ArrayRecordDataSource([str(file)])
                if len(records) != expected:
                    raise RuntimeError(f"it has {len(records)} records, expected {expected}")
                for first in range(0, expected, _READ):
                    records.__getitems__(range(first, min(first + _READ, expected)))
            except RuntimeError as error:
                raise Damaged(f"{file} is damaged: {error}. {_ANEW}") from error

    def _check_room(self) -> None:
        left = self._contents.examples - self.position
        needed = left * self._contents.record.itemsize
        free = shutil.disk_usage(self._path).free
        if needed > free:
            raise UserError(
                f"{left:,} examples of {self._contents.record.itemsize:,} bytes each are "
                f"{needed / _GIB:,.1f} GiB, and {self._path} has {free / _GIB:,.1f} GiB free. "
                "Store fewer (config.store.epochs) or less of each (config.store.dtype=float16, "
                "config.store.top_k), or write to another --workdir"
            )

    def write(self, records: np.ndarray) -> None:
        """Appends records, [N] of the dtype `Contents.record`."""
        for record in records:
            with self._writing():
                if (writer := self._writer) is None:
                    # Groups of one record are read at random without reading their neighbours.
                    writer = ArrayRecordWriter(str(self._partial), "group_size:1,uncompressed")
                    self._writer = writer
                writer.write(record.tobytes())
            self.position += 1
            if self.position in (
                self._contents.examples,
                (self._number + 1) * self._contents.examples_per_file,
            ):
                with self._writing():
                    self._finish(writer)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Explains what keeps a file from being written, which array_record says in other ways."""
        try:
            with naming(self._partial):
                yield
        except (OSError, RuntimeError) as error:
            raise cannot_write(error, _AGAIN, self._path) or RunFailed(
                f"{self._partial} cannot be written: {str(error).partition(chr(10))[0]}. {_AGAIN}"
            ) from error

    @property
    def _number(self) -> int:
        """Of the file that is written to; of the one just filled, until it is finished."""
        return (self.position - 1) // self._contents.examples_per_file

    @property
    def _partial(self) -> Path:
        return self._path / "unfinished.array_record"

    def _finish(self, writer: ArrayRecordWriter) -> None:
        writer.close()
        self._writer = None
        with self._partial.open("rb") as file:
            os.fsync(file.fileno())
        self._partial.replace(self._path / self._contents.file(self._number))

    def close(self) -> None:
        """Gives up the file that is not finished."""
        try:
            if self._writer is not None:
                self._writer.close()
        # What it still held finds no room either, and is given up.
        except (OSError, RuntimeError):
            pass
        finally:
            self._writer = None
            self._partial.unlink(missing_ok=True)


class Store:
    """A complete store, read at random.

    Raises:
      UserError: if there is none, or it is not complete, or its files are damaged.
    """

    def __init__(self, path: Path):
        self.path = check_reachable(path, "targets")
        if not (path / DESCRIPTION).is_file():
            raise UserError(f"{path} holds no stored targets: it has no {DESCRIPTION}")
        with _rewritten():
            self.contents = _from_json(read_recorded(path / DESCRIPTION), path)
        names = [self.contents.file(number) for number in range(self.contents.files)]
        missing = [name for name in names if not (path / name).is_file()]
        if missing:
            raise UserError(
                f"the targets in {path} are not complete: {len(missing)} of {len(names)} files are "
                f"missing, the first is {missing[0]}. Run the same store_targets command again"
            )
        try:
            self._records = ArrayRecordDataSource([str(path / name) for name in names])
            count = len(self._records)
        except RuntimeError as error:
            raise _damaged([path / name for name in names]) from error
        if count != self.contents.examples:
            raise Damaged(
                f"the targets in {path} are damaged: {count} records, expected "
                f"{self.contents.examples}. {_ANEW}"
            )
        self._layout = self.contents.record

    def __len__(self) -> int:
        return self.contents.examples

    def read(self, position: int) -> np.void:
        """The record of an example, with the fields of `Contents.record`.

        ArrayRecord compares its checksum.

        Raises:
          Damaged: if it is not what was written.
        """
        file = self.path / self.contents.file(position // self.contents.examples_per_file)
        try:
            record = self._records[position]
        except RuntimeError as error:
            raise Damaged(f"{file} is damaged: {error}. {_ANEW}") from error
        if len(record) != self._layout.itemsize:
            raise Damaged(f"{file} is damaged: a record has {len(record)} bytes. {_ANEW}")
        return np.frombuffer(record, self._layout)[0]


def _damaged(files: Sequence[Path]) -> Damaged:
    """The error of files that cannot be opened together; it names the first that cannot alone."""
    for file in files:
        try:
            len(ArrayRecordDataSource([str(file)]))
        except RuntimeError:
            return Damaged(f"{file} is damaged: it is no longer an ArrayRecord file. {_ANEW}")
    return Damaged(f"the targets in {files[0].parent} are damaged. {_ANEW}")


def view_of(record: np.void) -> View:
    """The view a record's image was seen through."""
    return View(tuple(record["box"].tolist()), bool(record["flip"]))


def _to_json(contents: Contents) -> dict[str, Any]:
    arrays = {name: [dtype, list(shape)] for name, (dtype, shape) in contents.arrays.items()}
    content = dataclasses.asdict(contents) | {"arrays": arrays, "about": dict(contents.about)}
    return json.loads(json.dumps(content))


@contextlib.contextmanager
def _rewritten() -> Iterator[None]:
    """Adds what to do to the error of a damaged description."""
    try:
        yield
    except Damaged as error:
        raise Damaged(f"{error}. {_ANEW}") from error


def _from_json(content: Any, path: Path) -> Contents:
    try:
        arrays = {name: (dtype, tuple(shape)) for name, (dtype, shape) in content["arrays"].items()}
        contents = Contents(**content | {"arrays": arrays})
        if not (contents.examples > 0 and contents.examples_per_file > 0 and contents.record):
            raise ValueError(f"of {contents.examples} examples")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Damaged(f"{path / DESCRIPTION} is not the description of a store") from error
    return contents
