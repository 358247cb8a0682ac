"""The flags by which processes find each other."""

from pathlib import Path

from absl import flags

from distill.bounds import Process, Processes, Seconds
from distill.command.flags import define_number
from distill.parallel import distributed


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


def join(values: flags.FlagValues, workdir: Path | None = None) -> None:
    """Meets the other processes that the flags tell of, before anything else of JAX.

    Args:
      values: parsed, with the flags of `define_process_flags`.
      workdir: of the training run; None for a command that cannot be resumed.

    Raises:
      UserError: if the flags contradict each other or there is nobody to meet.
    """
    distributed.join(
        cluster=values.distributed,
        coordinator=values.coordinator,
        processes=values.processes,
        process=values.process,
        start_timeout=values.start_timeout,
        lost_after=values.lost_after,
        workdir=workdir,
        preemptible=workdir is not None,
    )
