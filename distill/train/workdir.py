"""The directory of a run: whose it is, and what it says at the end."""

import contextlib
import errno
import fcntl
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from distill.buckets import place_of
from distill.data.sources import abbreviate
from distill.errors import Damaged, RunFailed, UserError
from distill.json_files import read_json, write_json
from distill.moved import Claimed, read_recorded
from distill.parallel import distributed
from distill.paths import check_reachable, check_utf8, local_path
from distill.train.damage import mendable, set_aside
from distill.train.differences import differences

CLASSES = "classes.json"
DATA = "data.json"

# Of several directories, so many are named.
_MOST_NAMED = 5


class Gone(RunFailed):
    """A run's directory is no longer there, and whatever is still being written has no place."""


class Workdir:
    """A run's directory to write to, absolute; one config owns it.

    All processes of a run see the same directory; only the primary writes to it here.

    Raises:
      UserError: if it is not on this machine, or cannot be created or written.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        resume_from: int | None = None,
        parts: Mapping[str, int] = MappingProxyType({}),
    ):
        """Creates it if it is not there.

        Args:
          path: of the directory.
          resume_from: the step of a checkpoint to go on from where later ones are damaged, see
            `distill.train.damage.set_aside`; None goes on from the newest.
          parts: the same of runs below it, by their paths from here.
        """
        self.path = Path(local_path(str(path), "workdir"))
        self._resume_from, self._parts = resume_from, parts
        self.claimed = False
        """Whether it is known to be this run's, by `claim`."""
        check_utf8(self.path, "--workdir")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
            self._identity = _identity(self.path)
        except OSError as error:
            raise UserError(
                f"cannot write to workdir {self.path}: {error.strerror}; choose another --workdir"
            ) from error

    def check_there(self) -> None:
        """Checks, before something is written, that it is the directory that it was.

        Raises:
          Gone: if it was deleted, or another one is in its place.
        """
        try:
            there = _identity(self.path) == self._identity
        except FileNotFoundError:
            there = False
        if not there:
            raise Gone(
                f"workdir {self.path} was deleted, moved or replaced while the run was at work "
                "there: nothing more is saved. Put back the one that was there and run the same "
                "command again, or begin anew in another --workdir"
            )

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """While entered, what fails because the directory has gone says so.

        Raises:
          Gone: as `check_there`.
        """
        try:
            yield
        except UserError:
            raise
        except Exception:
            self.check_there()
            raise

    def below(self, name: str) -> "Workdir":
        """That of one of several runs which are made together."""
        return Workdir(self.path / name, resume_from=self._parts.get(name, self._resume_from))

    def claim(
        self,
        config: Mapping[str, Any],
        may_change: Collection[str] = (),
        *,
        classes: Sequence[str] | None = None,
        data: Mapping[str, Mapping[str, Any]] | None = None,
        complete: Callable[[Any], Any] = lambda recorded: recorded,
    ) -> None:
        """Records what a run depends on, after checking that what is recorded says the same.

        A run that was moved with what its config names is the same run, and so is an older one
        whose paths were recorded as they were typed. No other process can claim the workdir while
        this object is there.

        Args:
          config: resolved, as JSON can hold it; for config.json.
          may_change: keys such as `train.log_every` or whole sections such as `mesh` that may have
            another value than before; the new value is recorded.
          classes: the names of the model's classes, in the order of its logits, for classes.json;
            None if it has none, or they are not known.
          data: of each split its number of images and fingerprint, for data.json; None where this
            process has not looked.
          complete: adds to a recorded config the defaults of keys that it does not have, as one of
            an earlier version does not have all.

        Raises:
          UserError: naming what differs, if the workdir belongs to another config or other data; if
            another process is at work there.
          Damaged: if what it recorded is.
        """
        if distributed.is_primary():
            self._lock()
        if self._resume_from is not None:
            if distributed.is_primary():
                set_aside(self.path, self._resume_from)
            # The others wait until it is done.
            distributed.agree(0)
        file = self.path / "config.json"
        with mendable(self.path):
            claimed = Claimed.read(self.path)
        recorded = _read(file) if file.exists() else None
        completed = config if recorded is None else complete(_as_it_ran(recorded))
        there = claimed.aligned(completed, config)
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
        check_same_data(self.path, classes, data)
        # All processes have checked; a file that says the same already is left alone.
        if distributed.is_primary():
            content = _renewed(recorded or {}, completed, config)
            if recorded != content:
                write_json(file, content, checked=True)
            if classes is not None:
                write_json(self.path / CLASSES, {"classes": list(classes)}, checked=True)
            if data is not None:
                write_json(self.path / DATA, data, checked=True)
            claimed.write()
        self.claimed = True

    def _lock(self) -> None:
        # A process may lock a file again. Its locks end with it, however it ends.
        file = self.path / ".lock"
        if file.is_dir():
            raise Damaged(
                f"{file} is damaged: it is a directory, and a file is expected; remove it"
            )
        self._locked = file.open("wb")
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
        write_json(self.path / "teachers.json", teachers, checked=True)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes the run's final figures to summary.json."""
        write_json(self.path / "summary.json", summary, checked=True)


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _renewed(
    recorded: Mapping[str, Any], completed: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any]:
    """The config to record; what says the same already stays in its words.

    A teacher's fingerprint is of the words in which its run recorded its model.
    """
    return {
        key: recorded[key] if key in recorded and completed[key] == value else value
        for key, value in config.items()
    }


def check_same_data(
    workdir: Path,
    classes: Sequence[str] | None,
    data: Mapping[str, Mapping[str, Any]] | None,
) -> None:
    """Checks that what the run in `workdir` recorded of its classes and data is so still.

    What was not recorded, as runs once did not, or is not given, is not compared.

    Raises:
      UserError: naming what differs.
    """
    there, where = read_classes(workdir), place_of(workdir)
    if there and classes is not None and there != tuple(classes):
        raise UserError(
            f"the run in {where} is of the classes {abbreviate(there)}, and the data now has "
            f"{abbreviate(tuple(classes))}{_first_difference(there, classes)}. Name the classes as "
            "they were, or train on these in a new --workdir"
        )
    file = workdir / DATA
    recorded, data = _read(file) if file.exists() else {}, data or {}
    changed = [
        f"  {split}: {_compare(recorded[split], data[split])}"
        for split in sorted(recorded.keys() & data.keys())
        if recorded[split] != data[split]
    ]
    if changed:
        listing = "\n".join(changed)
        raise UserError(
            f"the data of the run in {where} has changed since it was begun\n{listing}\n"
            "Restore it, or train on what is there now in a new --workdir. If the change does not "
            f"matter, delete {file} to go on with the data as it is"
        )


def _first_difference(there: Sequence[str], here: Sequence[str]) -> str:
    for place, (old, new) in enumerate(zip(there, here, strict=False)):
        if old != new:
            return f": class {place} was {old!r} and is {new!r}"
    return f": {len(there)} classes were {len(here)}"


def _compare(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    if there["images"] != here["images"]:
        return f"{there['images']:,} images then, {here['images']:,} now"
    return f"{here['images']:,} images as then, but of other names, sizes or classes"


def read_classes(workdir: Path) -> tuple[str, ...]:
    """The classes of the model of the run in `workdir`, in the order of its logits.

    Empty for a model without classes, or one whose classes nobody has named. Of a run that was
    begun before runs recorded them, those that its config chose, if any.

    Raises:
      UserError: if what is recorded is damaged.
    """
    file = workdir / CLASSES
    if not file.exists():
        config = workdir / "config.json"
        recorded = _read(config) if config.exists() else {}
        return tuple(recorded.get("data", {}).get("classes", ()))
    content = _read(file)
    names = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        with mendable(workdir):
            raise Damaged(f'{file} is damaged: expected {{"classes": [names]}}')
    return tuple(names)


def read_images(workdir: Path, split: str) -> int | None:
    """How many images the run in `workdir` found in a split; None if it did not record it."""
    file = workdir / DATA
    recorded = _read(file) if file.exists() else {}
    return recorded.get(split, {}).get("images")


def is_run(directory: Path) -> bool:
    """Whether a directory has the config of a run; published models have another config.json."""
    file = directory / "config.json"
    if not file.is_file():
        return False
    try:
        return _of_run(read_json(file))
    except UserError:
        # Whoever reads it says what is wrong.
        return True


def _read(file: Path) -> Any:
    """An object that a run wrote of itself."""
    with mendable(file.parent):
        return _checked(read_json(file), file)


def _recorded(file: Path) -> Any:
    """The same, its paths as they are now."""
    with mendable(file.parent):
        return _checked(read_recorded(file), file)


def _checked(content: Any, file: Path) -> Any:
    if not isinstance(content, dict):
        raise Damaged(f"{file} is damaged: it holds no object")
    return content


def _of_run(config: Any) -> bool:
    return isinstance(config, dict) and not config.keys().isdisjoint(("data", "train"))


def _within(path: Path) -> str:
    """The end of a message about a directory of which a run is made or was exported to."""
    run = next((one for one in path.parents if (one / "config.json").is_file()), None)
    if run is None or not is_run(run):
        return ""
    return f"; it is part of the run in {place_of(run)}, which may be meant"


def read_config(workdir: Path) -> dict[str, Any]:
    """The resolved config of the run in `workdir`; what moved with it is found where it is now.

    Raises:
      UserError: if no run has been started there.
    """
    check_reachable(workdir, "workdir")
    where = place_of(workdir)
    if not workdir.is_dir():
        missing = "is not a directory" if workdir.exists() else "does not exist"
        raise UserError(f"workdir {where} {missing}; give the directory that a run wrote")
    file = workdir / "config.json"
    if not file.is_file():
        # As those of several students lie in one.
        below = sorted(one.parent.name for one in workdir.glob("*/config.json"))
        name = f"; name one in it: {', '.join(below[:_MOST_NAMED])}" if below else ""
        raise UserError(
            f"{where} is not the workdir of a run: it has no config.json{name or _within(workdir)}"
        )
    recorded = _recorded(file)
    if not _of_run(recorded):
        raise UserError(
            f"{where} is not the workdir of a run: its config.json says neither data nor train; "
            "of a published model, say --weights, config.KEY.weights.path"
        )
    return _as_it_ran(recorded)


def _as_it_ran(recorded: dict[str, Any]) -> dict[str, Any]:
    """A recorded config with what earlier versions did and could not do otherwise."""
    data = recorded.get("data")
    if not isinstance(data, dict) or "decoder" in data:
        return recorded
    return recorded | {"data": data | {"decoder": "pillow"}}


def read_summary(workdir: Path) -> dict[str, Any] | None:
    """The final figures of a run that is complete, else None."""
    file = workdir / "summary.json"
    return _read(file) if file.exists() else None


def read_teachers(workdir: Path) -> dict[str, Any]:
    """What is known of a run's teachers, by name; nothing of a run that had none."""
    file = workdir / "teachers.json"
    return _recorded(file) if file.exists() else {}
