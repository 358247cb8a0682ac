"""Local copies of directories in buckets.

What a bucket says of itself lies below `.distill/` in each directory: `whole.json` names the
checkpoints that are whole, with an identifier and the sizes of their files. It is written after
their last object and before the first of them is deleted, so that half a checkpoint never counts.
A directory that was copied into a bucket by other means has none, and everything in it counts.
"""

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from distill.buckets.bucket import Bucket
from distill.errors import RunFailed, UserError
from distill.json_files import read_json, write_json
from distill.paths import check_reachable, in_bucket, local_path, user_cache

ABOUT = ".distill/"
"""What is of the bucket's directory, not of the run."""
WHOLE = f"{ABOUT}whole.json"
COPY = f"{ABOUT}copy.json"

# Directories that appear and go as one.
_UNIT = re.compile(r"((?:.*/)?(?:checkpoints|best)/\d+)/.+", re.DOTALL)
# As often a copy is begun again because the run it is of goes on.
_ATTEMPTS = 5
# What only the training of a run that is to go on reads.
_OF_TRAINING = re.compile(r"(?:.*/)?checkpoints/\d+/(?:optimizer|trained)/.*", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Whole:
    """What `whole.json` says."""

    version: str = ""
    """Another one whenever anything was sent."""
    units: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """Of each directory that is whole its `id`, and the sizes of its `files` in bytes."""

    @classmethod
    def read(cls, bucket: Bucket) -> "Whole | None":
        """That of a bucket; None if nothing of this project has written to it.

        Raises:
          UserError: if it is damaged.
        """
        content = bucket.read(WHOLE)
        try:
            return None if content is None else cls(**json.loads(content))
        except (ValueError, TypeError) as error:
            raise UserError(f"{bucket.url}/{WHOLE} is damaged: {error}") from error

    def write(self, bucket: Bucket) -> None:
        """Writes it to a bucket."""
        bucket.write(WHOLE, json.dumps(dataclasses.asdict(self), indent=1).encode())


def unit_of(name: str) -> str | None:
    """The directory, such as `checkpoints/10`, with which a file appears; None of other files."""
    whole = _UNIT.fullmatch(name)
    return whole[1] if whole else None


def is_shared(name: str) -> bool:
    """Whether a file is more than one that is not finished, or of this machine."""
    return not any(
        part.startswith(".") or "orbax-checkpoint-tmp" in part for part in name.split("/")
    )


@dataclasses.dataclass(frozen=True)
class Known:
    """What is known of a local copy."""

    versions: Sequence[str] = ()
    """That it may have gone on from; none while it is fetched."""
    units: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Directories that are as they are in the bucket, with their ids there."""
    sent: Mapping[str, Sequence[int]] = dataclasses.field(default_factory=dict)
    """Other files as they were when they last were what the bucket has, see `stamp`."""


def stamp(file: Path) -> list[int]:
    """Size and time of modification, which change where the content does."""
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]


def names_in(directory: Path) -> list[str]:
    """Files below a directory that are to be shared, by their names from there."""
    found = (
        str((Path(folder) / file).relative_to(directory))
        for folder, _, files in os.walk(directory)
        for file in files
    )
    return [name for name in found if is_shared(name)]


# Of all copies of this process.
_urls: dict[Path, str] = {}


class Copy:
    """A local copy of a bucket's directory, and what is known of how it came to be.

    Args:
      url: of the directory.
      purpose: `run`, for a copy that a run works in, or `read`.
    """

    def __init__(self, url: str, purpose: Literal["run", "read"] = "run"):
        self.url = url
        self._purpose = purpose
        name = hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        self.root = staging() / name / purpose
        self.directory = self.root / url.rpartition("/")[2]
        """Called as the bucket's directory is."""
        _urls[self.directory] = url
        # In the copy, with which it goes.
        self._record = self.directory / COPY

    @property
    def known(self) -> Known:
        """As it was noted last."""
        return Known(**read_json(self._record)) if self._record.exists() else Known()

    def note(self, known: Known) -> None:
        """Records what is known from now on."""
        self._record.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._record, dataclasses.asdict(known), checked=True)

    def _goes_on(self, whole: Whole | None, known: Known) -> bool:
        """Whether a run has worked here last, in what the bucket holds still.

        A copy whose checkpoints are all gone was emptied; the bucket's must not go with them.
        """
        if self._purpose != "run" or whole is None or whole.version not in known.versions:
            return False
        return not known.units or any(map(unit_of, names_in(self.directory)))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes of this machine away from the copy."""
        with self._writable(), (self.root / ".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def fetch(self, bucket: Bucket) -> Whole | None:
        """Makes the copy what the bucket holds; one that has gone on from there stays as it is.

        A copy to read leaves out what only training needs.

        Returns:
          What the bucket says of itself.

        Raises:
          UserError: if the copy cannot be written.
          RunFailed: if the bucket changes all the time, or lacks what it says it has.
        """
        for _ in range(_ATTEMPTS):
            whole, known = Whole.read(bucket), self.known
            if self._goes_on(whole, known):
                return whole
            with self._writable():
                if self._download(bucket, whole, known.units):
                    return whole
        raise RunFailed(
            f"{bucket.url} lacks files of a checkpoint that {WHOLE} says is whole; it was changed "
            "by other means, or changes faster than it can be read"
        )

    def _download(self, bucket: Bucket, whole: Whole | None, held: Mapping[str, str]) -> bool:
        """Whether everything was there."""
        expected = None if whole is None else whole.units
        names = [name for name in bucket.names() if is_shared(name)]
        if self._purpose == "run" and names and expected is None:
            _check_workdir(bucket.url, names)
        if self._purpose == "read":
            names = [name for name in names if not _OF_TRAINING.fullmatch(name)]
        if expected is not None:
            names = [name for name in names if (unit_of(name) or "") in {"", *expected}]
        units = {} if expected is None else {key: one["id"] for key, one in expected.items()}
        lacking = {unit_of(name) for name in names if not (self.directory / name).is_file()}
        same = {
            key: one for key, one in units.items() if held.get(key) == one and key not in lacking
        }
        self.note(Known(units=same))
        _delete_all_but(self.directory, {*names, COPY})
        for name, content in bucket.read_all([name for name in names if unit_of(name) not in same]):
            if content is None or not _fits(expected, name, content):
                return False
            _write(self.directory / name, content)
        sent = {name: stamp(self.directory / name) for name in names if unit_of(name) is None}
        self.note(Known([] if whole is None else [whole.version], units, sent))
        return True

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            raise UserError(
                f"{error.filename or self.directory} cannot be written, where a copy of {self.url} "
                f"is to be: {error.strerror}; make room, or set DISTILL_STAGING to a directory on "
                "another disk"
            ) from error


def staging() -> Path:
    """Where copies lie: $DISTILL_STAGING, or a directory in the user's cache.

    Raises:
      UserError: if that is no local path.
    """
    place = os.environ.get("DISTILL_STAGING") or str(user_cache() / "buckets")
    return check_reachable(Path(local_path(place, "DISTILL_STAGING")), "DISTILL_STAGING")


@functools.cache
def fetched(url: str) -> Path:
    """A local copy, to read, of a bucket's directory; fetched once in a process.

    Raises:
      UserError: if there is nothing, or it may not be read.
      RunFailed: if it cannot be reached.
    """
    copy, bucket = Copy(url, "read"), Bucket(url)
    with copy.locked():
        copy.fetch(bucket)
        if not names_in(copy.directory):
            raise UserError(f"{url} holds nothing; check its name")
    return copy.directory


def local(place: str) -> Path:
    """A path as it is, or a local copy to read of a bucket's directory; see `fetched`."""
    return fetched(place) if in_bucket(place) else Path(place)


def place_of(directory: Path) -> str:
    """What a user calls a directory or a file: the URL of which it is a copy, or its path."""
    for above in (directory, *directory.parents):
        if above in _urls:
            inside = directory.relative_to(above).as_posix()
            return _urls[above] if inside == "." else f"{_urls[above]}/{inside}"
    return str(directory)


def send(url: str, name: str) -> None:
    """Writes a file of the copy that was `fetched` to the bucket."""
    Bucket(url).write(name, (fetched(url) / name).read_bytes())


def _check_workdir(url: str, names: Sequence[str]) -> None:
    if not any(name.count("/") < 2 and name.endswith("config.json") for name in names):
        raise UserError(
            f"{url} holds {len(names):,} objects, such as {names[0]}, and is not the workdir of a "
            "run: it has no config.json. Choose another --workdir"
        )


def _fits(expected: Mapping[str, Mapping[str, Any]] | None, name: str, content: bytes) -> bool:
    unit = unit_of(name)
    if expected is None or unit is None:
        return True
    return expected[unit]["files"].get(name.removeprefix(f"{unit}/")) == len(content)


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(file)


def _delete_all_but(directory: Path, names: set[str]) -> None:
    """Deletes all other files, and directories in which no file is left."""
    kept = {parent for name in names for parent in (directory / name).parents}
    for folder, folders, files in os.walk(directory):
        for one in files:
            if str((Path(folder) / one).relative_to(directory)) not in names:
                (Path(folder) / one).unlink()
        for one in list(folders):
            if Path(folder) / one not in kept:
                shutil.rmtree(Path(folder) / one)
                folders.remove(one)
