"""The directory of a run: whose it is, and what it says at the end."""

import errno
import fcntl
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.json_files import read_json, write_json
from distill.moved import Claimed, read_recorded
from distill.parallel import distributed
from distill.paths import check_reachable, local_path


class Workdir:
    """A run's directory to write to, absolute; one config owns it.

    All processes of a run see the same directory; only the primary writes to it here.

    Raises:
      UserError: if it is not on this machine, or cannot be created or written.
    """

    def __init__(self, path: str | Path):
        self.path = Path(local_path(str(path), "workdir"))
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise UserError(
                f"cannot write to workdir {self.path}: {error.strerror}; choose another --workdir"
            ) from error

    def claim(self, config: Mapping[str, Any], may_change: Collection[str] = ()) -> None:
        """Writes config.json, after checking that one that is there says the same, and claim.json.

        A run that was moved with what its config names is the same run, and so is an older one
        whose paths were recorded as they were typed. No other process can claim the workdir while
        this object is there.

        Args:
          config: resolved, as JSON can hold it.
          may_change: keys such as `train.log_every` or whole sections such as `mesh` that may have
            another value than before; the new value is recorded.

        Raises:
          UserError: naming what differs, if the workdir belongs to another config; if another
            process is at work there.
        """
        if distributed.is_primary():
            self._lock()
        file, claimed = self.path / "config.json", Claimed.read(self.path)
        recorded = read_json(file) if file.exists() else None
        there = config if recorded is None else claimed.aligned(recorded, config)
        different = differences(there, config, may_change)
        if different:
            listing = "\n".join(
                f"  config.{key}: {old!r} there, {new!r} now"
                for key, (old, new) in different.items()
            )
            raise UserError(
                f"workdir {self.path} belongs to a run with another config\n{listing}\n"
                "Use a new --workdir, or the same config to resume"
            )
        # All processes have checked; a file that says the same already is left alone.
        if distributed.is_primary():
            if recorded != config:
                write_json(file, config)
            claimed.write()

    def _lock(self) -> None:
        # A process may lock a file again. Its locks end with it, however it ends.
        self._locked = (self.path / ".lock").open("wb")
        try:
            fcntl.lockf(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Some network file systems have no locks.
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise UserError(
                    f"another process is at work in workdir {self.path}; wait for its end, stop "
                    "it, or choose another --workdir"
                ) from error

    @property
    def summary(self) -> dict[str, Any] | None:
        """The final figures of a run that is complete, else None."""
        return read_summary(self.path)

    def write_teachers(self, teachers: Mapping[str, Any]) -> None:
        """Writes to teachers.json who the run's teachers are, as JSON can hold it."""
        write_json(self.path / "teachers.json", teachers)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes the run's final figures to summary.json."""
        write_json(self.path / "summary.json", summary)


def read_config(workdir: Path) -> dict[str, Any]:
    """The resolved config of the run in `workdir`; what moved with it is found where it is now.

    Raises:
      UserError: if no run has been started there.
    """
    check_reachable(workdir, "workdir")
    if not workdir.is_dir():
        missing = "is not a directory" if workdir.exists() else "does not exist"
        raise UserError(f"workdir {workdir} {missing}")
    file = workdir / "config.json"
    if not file.is_file():
        raise UserError(f"{workdir} is not the workdir of a run: it has no config.json")
    return read_recorded(file)


def read_summary(workdir: Path) -> dict[str, Any] | None:
    """The final figures of a run that is complete, else None."""
    file = workdir / "summary.json"
    return read_json(file) if file.exists() else None


def read_teachers(workdir: Path) -> dict[str, Any]:
    """What is known of a run's teachers, by name; nothing of a run that had none."""
    file = workdir / "teachers.json"
    return read_recorded(file) if file.exists() else {}


def differences(
    there: Mapping[str, Any], here: Mapping[str, Any], may_change: Collection[str] = ()
) -> dict[str, tuple[Any, Any]]:
    """Keys such as `train.batch_size` whose values differ, with the values there and here.

    Args:
      there: a resolved config, as JSON can hold it.
      here: another.
      may_change: keys or whole sections that do not count; a `*` is any one name.
    """
    return {
        key: values
        for key, values in _differences(there, here)
        if not any(_covers(allowed, key) for allowed in may_change)
    }


def _covers(allowed: str, key: str) -> bool:
    wanted, parts = allowed.split("."), key.split(".")
    return len(wanted) <= len(parts) and all(
        name in ("*", part) for name, part in zip(wanted, parts, strict=False)
    )


def _differences(
    there: Any, here: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Keys such as train.batch_size with the values there and here, where they differ."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted(there.keys() | here.keys()):
            yield from _differences(there.get(key), here.get(key), (*path, key))
    elif there != here:
        yield ".".join(path), (there, here)
