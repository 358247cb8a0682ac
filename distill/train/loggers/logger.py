"""What a logger is, and which there are."""

import dataclasses
import functools
import importlib.util
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol

from distill.errors import UserError, did_you_mean
from distill.json_files import read_json, write_json
from distill.modules import modules_in

_PACKAGE = "distill.train.loggers"
RUNS = "loggers.json"
"""In a workdir: what services call its run."""


class Logger(Protocol):
    """Takes a run's metrics; its methods are called by the primary process alone.

    What they raise is said once, and the run goes on without it. They do not wait for a network.
    """

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the values of one step, in the order of steps."""
        ...

    def conclude(self, summary: Mapping[str, Any]) -> None:
        """Takes the final figures of a run that is complete."""
        ...

    def close(self) -> None:
        """Hands on what is still here."""
        ...


@dataclasses.dataclass(frozen=True)
class LoggedRun:
    """The run that a logger is opened for."""

    workdir: Path
    config: Mapping[str, Any]
    """Resolved, as JSON can hold it."""
    resume_step: int
    """The step after which it goes on, -1 where it begins anew."""
    logged_step: int
    """The last step of which an earlier start has written metrics, -1 if there is none."""

    @property
    def known(self) -> dict[str, Any]:
        """What services called the run in earlier starts, by logger.

        Raises:
          Damaged: if the file is.
        """
        file = self.workdir / RUNS
        return read_json(file) if file.exists() else {}

    def remember(self, logger: str, said: Mapping[str, Any]) -> None:
        """Keeps what a service calls the run."""
        known = self.known
        if known.get(logger) != dict(said):
            write_json(self.workdir / RUNS, {**known, logger: dict(said)}, checked=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoggerKind:
    """A kind of logger, as a module of this package declares it."""

    name: str
    """In config.train.loggers."""
    open: Callable[[LoggedRun], Logger]
    """Begins or goes on with a run. What it raises ends a run that has not begun."""
    packages: tuple[str, ...] = ()
    """Modules that it imports beyond what the project always has."""
    extra: str | None = None
    """Of the project, which brings them."""


@functools.cache
def known_loggers() -> dict[str, LoggerKind]:
    """Every logger that a module of this package declares, by name.

    Raises:
      ValueError: if two have the same name.
    """
    found = [one for module in modules_in(_PACKAGE) for one in getattr(module, "LOGGERS", ())]
    names = Counter(one.name for one in found)
    if twice := [name for name, count in names.items() if count > 1]:
        raise ValueError(f"two modules of {_PACKAGE} declare a logger {', '.join(twice)}")
    return {one.name: one for one in found}


def known_logger(text: str, key: str) -> str:
    """A logger's name.

    Args:
      text: as it was given.
      key: that it is of, for errors.

    Raises:
      UserError: naming it if there is no such logger, and those that there are.
    """
    known = known_loggers()
    if text not in known:
        near = did_you_mean(text, known)
        raise UserError(f"{key} has {text!r}; expected some of {', '.join(known)}{near}")
    return text


LoggerName = Annotated[str, known_logger]
"""The name of a logger that there is, in a config."""


def as_typed(names: Sequence[str]) -> str:
    """`config.train.loggers` with these names, as a shell takes it."""
    listed = ",".join(map(repr, names)) + ("," if len(names) == 1 else "")
    return f'"--config.train.loggers=({listed})"'


def check_installed(names: Sequence[str]) -> None:
    """Checks that what loggers import is there.

    Raises:
      UserError: naming what is missing, and what to type.
    """
    for kind in (known_loggers()[name] for name in names):
        missing = [one for one in kind.packages if importlib.util.find_spec(one) is None]
        if missing:
            raise UserError(
                f"config.train.loggers has {kind.name!r}, which needs the package "
                f"{', '.join(missing)}, and that is not installed: pip install "
                f"'distill-vit[{kind.extra}]', or in a checkout pip install -e '.[{kind.extra}]'; "
                "or leave it out"
            )
