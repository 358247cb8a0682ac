"""The flags by which processes find each other."""

import hashlib
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

import jax
from absl import flags

import distill
from distill.bounds import Process, Processes, Seconds
from distill.command.entry import PACKAGES
from distill.command.flags import define_number
from distill.parallel import distributed

_FLAGS = ("distributed", "coordinator", "processes", "process", "start_timeout", "lost_after")


def define_process_flags(values: flags.FlagValues) -> None:
    """Defines the flags by which processes find each other; see docs/scale.md."""
    flags.DEFINE_bool(
        "distributed",
        False,
        "Join the other processes of this TPU slice, Slurm or Open MPI job.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "coordinator",
        None,
        "HOST:PORT at which process 0 listens, where nothing tells JAX; the same everywhere.",
        flag_values=values,
    )
    define_number("processes", "How many processes take part.", values, Processes)
    define_number("process", "Which of them this is.", values, Process)
    define_number(
        "start_timeout",
        "Seconds to wait for the other processes at the start.",
        values,
        Seconds,
        distributed.START_TIMEOUT,
    )
    define_number(
        "lost_after",
        "Seconds without a sign of life after which a process counts as lost.",
        values,
        Seconds,
        distributed.LOST_AFTER,
    )


def join(
    values: flags.FlagValues,
    workdir: Path | None = None,
    overrides: Mapping[str, str] | None = None,
) -> None:
    """Meets the other processes that the flags tell of, before anything else of JAX.

    Args:
      values: parsed, with the flags of `define_process_flags`.
      workdir: of the training run; None for a command that cannot be resumed.
      overrides: of the config.

    Raises:
      UserError: if the flags contradict each other, there is nobody to meet, or the others were
        started in another way.
    """
    several = values.distributed or values.processes is not None
    distributed.join(
        cluster=values.distributed,
        coordinator=values.coordinator,
        processes=values.processes,
        process=values.process,
        start_timeout=values.start_timeout,
        lost_after=values.lost_after,
        workdir=workdir,
        preemptible=workdir is not None,
        about=_about(values, overrides or {}) if several else None,
    )


def _about(values: flags.FlagValues, overrides: Mapping[str, str]) -> dict[str, object]:
    """How this process was started, as far as it must be the same for all."""
    about: dict[str, object] = {
        "the command": _command(),
        "the version of this project": f"{distill.__version__} (source {_source()})",
        "the version of JAX": jax.__version__,
        "the version of Python": ".".join(platform.python_version_tuple()[:2]),
    }
    given = {name: values[name].value for name in values if name not in _FLAGS}
    about |= {f"--{name}": value for name, value in given.items() if value is not None}
    return about | {f"--config.{key}": value for key, value in sorted(overrides.items())}


def _command() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec is not None else Path(sys.argv[0]).stem


def _source() -> str:
    """Eight digits that stand for the files that this project's packages consist of."""
    digest, home = hashlib.sha256(), Path(distill.__file__).parents[1]
    for name in ("distill", *PACKAGES):
        for file in sorted((home / name).rglob("*.py")):
            digest.update(f"{file.relative_to(home)}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:8]
