"""What a run writes into its local copy, sent to its bucket in the background."""

import contextlib
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from distill.buckets.bucket import Bucket
from distill.buckets.copies import Copy, Known, Whole, names_in, stamp, unit_of
from distill.buckets.owner import Owner
from distill.errors import RunFailed, UserError

EVERY = 5.0
"""Seconds between two looks at what was written; more where sending takes longer."""

# Says that a run is complete, which it is not before its last checkpoint counts.
_LAST = {"summary.json"}


@contextlib.contextmanager
def mirrored(url: str, stop: Callable[[], None]) -> Iterator[Path]:
    """A local directory that holds what a bucket's does, for a run to work in.

    What is written there is sent to the bucket, by a thread while the run goes on and at its end,
    however it ends. If it was killed, what was sent before counts.

    Args:
      url: of the bucket's directory.
      stop: is called, in a thread, when the bucket cannot be written to any more; it has to end the
        run.

    Raises:
      UserError: if there is no such bucket, it may not be used, or another process is at work
        there.
      RunFailed: if it cannot be reached, also in place of what `stop` made the run end with.
    """
    bucket, copy, lost = Bucket(url), Copy(url), []

    def give_up(error: UserError) -> None:
        lost.append(error)
        stop()

    owner = Owner(bucket, give_up)
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(owner.release)
        mirror = Mirror(bucket, copy, copy.fetch(bucket), give_up)
        on_failure.pop_all()
    try:
        yield copy.directory
    finally:
        try:
            mirror.end()
            if not lost:
                mirror.send()
                owner.release()
        except UserError as error:
            lost.append(error)
        if lost:
            owner.abandon()
            raise RunFailed(
                f"{lost[0]}\nEverything is kept in {copy.directory}. Run the same command on this "
                "machine to go on from there"
            ) from lost[0]


class Mirror:
    """Sends what changes in a copy to its bucket, until it is ended.

    A checkpoint that appears is linked to a place of its own before anything is sent, so that it is
    sent whole even if the run deletes it meanwhile; what was deleted before it was seen is never
    sent. Files that are not of a checkpoint are sent as they are when their turn comes, and before
    a checkpoint that was seen earlier counts: it has its metrics.

    Args:
      bucket: to send to.
      copy: fetched from there.
      whole: what the bucket says of itself.
      give_up: is told, in a thread, of the error after which nothing is sent any more.
    """

    def __init__(
        self, bucket: Bucket, copy: Copy, whole: Whole | None, give_up: Callable[[UserError], None]
    ):
        self._bucket, self._copy, self._give_up = bucket, copy, give_up
        self._links = copy.root / "sending"
        shutil.rmtree(self._links, ignore_errors=True)
        self._whole, self._sent = whole or self._adopted(), dict(copy.known.sent)
        self._inodes = {unit: self._inode(unit) for unit in self._whole.units}
        self._note(self._whole.version)
        if whole is None:
            self._whole.write(bucket)
        self._delete_halves()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Returns when the thread has sent what it had begun to send."""
        self._ended.set()
        self._thread.join()

    def send(self) -> None:
        """Sends what has changed.

        Raises:
          UserError: if the bucket may not be used.
          RunFailed: if it cannot be reached, or a file cannot be read or written.
        """
        try:
            self._send()
        except OSError as error:
            raise RunFailed(
                f"{error.filename} cannot be read or written: {error.strerror}"
            ) from error

    def _send(self) -> None:
        replaced = {
            unit
            for unit in self._whole.units
            if self._inode(unit) not in (None, self._inodes[unit])
        }
        if replaced:
            # By a run that went back to an earlier checkpoint and came here again.
            self._count({k: one for k, one in self._whole.units.items() if k not in replaced})
            self._delete_halves()
        units, files = self._look()
        new = sorted(units - self._whole.units.keys())
        gone = self._whole.units.keys() - units
        stamps = {name: one for name, one in files.items() if self._sent.get(name) != one}
        removed = self._sent.keys() - files.keys()
        if not (new or gone or stamps or removed):
            return
        described = {unit: self._send_unit(unit) for unit in new}
        last = {name: one for name, one in stamps.items() if Path(name).name in _LAST}
        self._send_files({name: one for name, one in stamps.items() if name not in last})
        kept = {unit: one for unit, one in self._whole.units.items() if unit not in gone}
        self._count(kept | described)
        self._send_files(last)
        for name in removed:
            self._bucket.delete(name)
            del self._sent[name]
        self._note(self._whole.version)
        if gone:
            self._delete_halves()

    def _work(self) -> None:
        pause = EVERY
        while not self._ended.wait(pause):
            began = time.monotonic()
            try:
                self.send()
            except UserError as error:
                self._give_up(error)
                return
            pause = max(EVERY, time.monotonic() - began)

    def _look(self) -> tuple[set[str], dict[str, list[int]]]:
        """The checkpoints that are there, the new ones linked; other files with their stamps."""
        while True:
            try:
                return self._link(), self._files()
            except FileNotFoundError:
                # Deleted while it was linked. Another look finds what has come in its place.
                continue

    def _link(self) -> set[str]:
        # A run keeps what was best before it saves a checkpoint: what is seen of the best after
        # the checkpoint is no older. In reverse, `checkpoints` come before `best`.
        names = sorted(names_in(self._copy.directory), reverse=True)
        units = {unit for name in names if (unit := unit_of(name))}
        for name in names:
            unit = unit_of(name)
            link = self._links / name
            if unit is None or unit in self._whole.units or link.exists():
                continue
            self._inodes[unit] = self._inode(unit)
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(self._copy.directory / name, link)
        return units

    def _inode(self, unit: str) -> int | None:
        """What tells a directory from another one of its name; None where there is none."""
        folder = self._copy.directory / unit
        return folder.stat().st_ino if folder.is_dir() else None

    def _files(self) -> dict[str, list[int]]:
        directory = self._copy.directory
        names = [name for name in names_in(directory) if unit_of(name) is None]
        return {name: stamp(directory / name) for name in names}

    def _send_unit(self, unit: str) -> dict[str, Any]:
        """Sends a checkpoint; returns what is said of it once it counts."""
        folder, sizes = self._links / unit, {}
        for name in sorted(names_in(folder)):
            content = (folder / name).read_bytes()
            self._bucket.write(f"{unit}/{name}", content)
            sizes[name] = len(content)
        return {"id": uuid.uuid4().hex, "files": sizes}

    def _send_files(self, stamps: Mapping[str, list[int]]) -> None:
        for name, one in stamps.items():
            try:
                content = (self._copy.directory / name).read_bytes()
            except FileNotFoundError:
                continue
            self._bucket.write(name, content)
            self._sent[name] = one

    def _count(self, units: Mapping[str, Mapping[str, Any]]) -> None:
        """Makes checkpoints count, and others not."""
        before, self._whole = self._whole.version, Whole(uuid.uuid4().hex, units)
        # It is not known which of them the bucket has if this process ends in between.
        self._note(before, self._whole.version)
        self._whole.write(self._bucket)
        shutil.rmtree(self._links, ignore_errors=True)

    def _note(self, *versions: str) -> None:
        units = {unit: one["id"] for unit, one in self._whole.units.items()}
        self._copy.note(Known(versions, units, self._sent))

    def _adopted(self) -> Whole:
        """What is said of a bucket that was filled by other means, or is empty."""
        units: dict[str, dict[str, Any]] = {}
        for name in names_in(self._copy.directory):
            if unit := unit_of(name):
                one = units.setdefault(unit, {"id": uuid.uuid4().hex, "files": {}})
                size = (self._copy.directory / name).stat().st_size
                one["files"][name.removeprefix(f"{unit}/")] = size
        return Whole(uuid.uuid4().hex, units)

    def _delete_halves(self) -> None:
        """Deletes what is left of checkpoints that do not count."""
        for name in self._bucket.names():
            unit = unit_of(name)
            if unit is not None and unit not in self._whole.units:
                self._bucket.delete(name)
