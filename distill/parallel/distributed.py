"""Runs of several processes: how they meet, what they agree on, and how they part.

Every process runs the same program on its own devices; a computation spans the devices of all.
Whatever steers the program (does the run resume, does it stop) must therefore come out the same
everywhere, or some would wait for a computation that others never start. Only process 0, the
primary, writes files that are not parts of a checkpoint, and only it talks.

Without `join` there is one process: it is the primary and agrees with itself.
"""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from jax._src import clusters
from jax.experimental import multihost_utils

from distill.errors import UserError
from distill.parallel import last_words, together
from distill.parallel.meeting import meet

START_TIMEOUT = 300
LOST_AFTER = 100

# How long a process that has failed waits to part from others that have come to their end.
_PARTING_SECONDS = 15
# How long JAX may take to connect processes that have met.
_CONNECTING_SECONDS = 60
# Within so many seconds it is known whether what failed here failed because of another process.
_BLAMING_SECONDS = 3.0

_last_words: subprocess.Popen | None = None
_watch: together.Watch | None = None
_called: str | None = None


def join(
    *,
    cluster: bool = False,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    start_timeout: int = START_TIMEOUT,
    lost_after: int = LOST_AFTER,
    workdir: Path | None = None,
    preemptible: bool = True,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Meets the other processes; to be called before anything else of JAX.

    Without `cluster`, `coordinator`, `processes` and `process` it does nothing: there is one
    process. On CPUs, JAX's own default (gloo) carries what the processes tell each other.

    Args:
      cluster: take the three from the environment: Cloud TPU, GKE, Slurm or Open MPI.
      coordinator: HOST:PORT at which process 0 listens and the others find it.
      processes: how many there are.
      process: which this one is, from 0.
      start_timeout: seconds to wait until all have come; then this process exits with status 2.
      lost_after: seconds without a sign of life after which a process counts as lost and the
        others are ended.
      workdir: whose newest checkpoint to name, should this process be ended.
      preemptible: whether SIGTERM to one process is a notice to all, which `stop_agreed` passes
        on, instead of ending the process.
      about: what must be the same for all, by name, as JSON can hold it.

    Raises:
      UserError: for contradictory arguments, an address that cannot be used, if there is no
        cluster in the environment, or if the processes do not belong together.
    """
    by_hand = {"coordinator": coordinator, "processes": processes, "process": process}
    given = [f"--{name}" for name, value in by_hand.items() if value is not None]
    if not cluster and not given:
        return
    if cluster and given:
        raise UserError(
            f"--distributed finds the processes by itself; leave out {' and '.join(given)}, or "
            "leave out --distributed and give --coordinator, --processes and --process"
        )
    given, devices = "--coordinator", None
    if cluster:
        given = "the address of the cluster"
        coordinator, processes, process, devices = _detected(start_timeout)
    global _called, _watch
    _called = _checked(coordinator, processes, process)
    assert coordinator is not None and processes is not None and process is not None
    meet(coordinator, processes, process, about or {}, start_timeout, given=given)
    jax.config.update("jax_enable_preemption_service", preemptible)
    late = threading.Timer(_CONNECTING_SECONDS, _give_up, (_called, coordinator))
    late.daemon = True
    late.start()
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            local_device_ids=devices,
            cluster_detection_method="deactivate",
            # Later than `late`: JAX would end the process without a word to the user.
            initialization_timeout=2 * _CONNECTING_SECONDS,
            heartbeat_timeout_seconds=lost_after,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"cannot start the run of several processes at {given}={coordinator}: {error}; process "
            "0 must run on that host, and the port must be free"
        ) from error
    finally:
        late.cancel()
    if jax.process_count() > 1:
        _leave_last_words(workdir)
        _watch = together.Watch(workdir, lambda code: end(code, explained=True))


def _detected(timeout: int) -> tuple[str, int, int, list[int] | None]:
    """Coordinator, number of processes, which this is, and its devices, of the environment."""
    address, processes, process, devices = clusters.ClusterEnv.auto_detect_unset_distributed_params(
        os.environ.get("JAX_COORDINATOR_ADDRESS"), None, None, None, None, timeout
    )
    if own := os.environ.get("JAX_LOCAL_DEVICE_IDS"):
        devices = [int(one) for one in own.split(",")]
    if address is None or processes is None or process is None:
        raise UserError(
            "--distributed found no cluster in the environment; start the command with srun or "
            "mpirun or on every worker of a TPU slice, or give --coordinator, --processes and "
            "--process"
        )
    return address, processes, process, None if devices is None else list(devices)


def _checked(coordinator: str | None, processes: int | None, process: int | None) -> str:
    """What this process is called, if it is told all that it has to know."""
    if coordinator is None or processes is None or process is None:
        raise UserError(
            "--coordinator=HOST:PORT, --processes=N and --process=I belong together; give all "
            "three, or --distributed on a cluster that JAX knows, or none for a single process"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 2**16:
        raise UserError(
            f"--coordinator must be HOST:PORT, such as 10.0.0.1:8476, not {coordinator}"
        )
    if not 0 <= process < processes:
        raise UserError(
            f"--process must be one of 0 to {processes - 1}, because --processes={processes}; "
            f"not {process}"
        )
    return _name(process, processes)


def _give_up(name: str, coordinator: str) -> NoReturn:
    """Ends this process, whose main thread waits in JAX for others that have gone since."""
    print(
        f"{name}: error: the processes met at {coordinator}, but JAX did not connect them within "
        f"{_CONNECTING_SECONDS} seconds; see what the others print, and start the same command on "
        "all of them",
        file=sys.stderr,
        flush=True,
    )
    os._exit(UserError.exit_code)


def _leave_last_words(workdir: Path | None) -> None:
    global _last_words
    arguments = [this_process(), *([] if workdir is None else [str(workdir)])]
    _last_words = subprocess.Popen(
        [sys.executable, "-I", "-S", last_words.__file__, *arguments],
        stdin=subprocess.PIPE,
        # Ctrl-C is not for it.
        start_new_session=True,
    )


def several() -> bool:
    """Whether other processes take part."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_primary() -> bool:
    """Whether this is the process that writes and talks."""
    return not several() or jax.process_index() == 0


def this_process() -> str:
    """Such as `process 1 of 4`."""
    return _name(jax.process_index(), jax.process_count())


def _name(process: int, processes: int) -> str:
    return f"process {process} of {processes}"


def who() -> str:
    """How this process begins what it says of an error: nothing where it is the only one."""
    if several():
        return f"{this_process()}: "
    # Before it has met the others, too.
    return f"{_called}: " if _called else ""


def check_joined() -> None:
    """Refuses to be a worker of a TPU slice by accident.

    Raises:
      UserError: if there are several processes that have not met by `join`.
    """
    if jax.process_count() > 1 and not jax.distributed.is_initialized():
        raise UserError(
            f"this is one of {jax.process_count()} processes of a TPU slice; start the same "
            "command with --distributed on all of them"
        )


def agree(value: int) -> int:
    """The primary's value, on every process; all must call it."""
    if not several():
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def total(*counts: int) -> tuple[int, ...]:
    """Sums over all processes; all must call it."""
    if not several():
        return counts
    gathered = multihost_utils.process_allgather(np.asarray(counts, np.int32))
    return tuple(int(count) for count in np.asarray(gathered, np.int64).sum(axis=0))


def share() -> tuple[int, int]:
    """This process's number, and of how many: what each takes of work that all share."""
    return jax.process_index(), jax.process_count()


def largest(value: int) -> int:
    """The largest of all processes' values; all must call it."""
    if not several():
        return value
    return int(np.max(multihost_utils.process_allgather(np.int32(value))))


def gather_rows(rows: Sequence[int], values: np.ndarray) -> np.ndarray:
    """The whole of what each process has some rows of; all must call it.

    Args:
      rows: those of this process, as many as every other has.
      values: uint8 [len(rows), …].
    """
    if not several():
        return values
    everyone = np.asarray(multihost_utils.process_allgather(np.asarray(rows, np.int32)))
    gathered = np.asarray(multihost_utils.process_allgather(values))
    whole = np.empty((everyone.max() + 1, *values.shape[1:]), values.dtype)
    whole[everyone.reshape(-1)] = gathered.reshape(-1, *values.shape[1:])
    return whole


def check_same(what: str, content: Mapping[str, Any]) -> None:
    """Checks that `content`, as JSON can hold it, is the same everywhere; all must call it.

    Raises:
      UserError: on every process, naming what differs, if it differs on one.
    """
    if several():
        together.check_same(what, content)


def check_shared(directory: Path, flag: str) -> None:
    """Checks that all processes see the same directory; all must call it.

    Args:
      directory: that is there for all of them.
      flag: by which it was given.

    Raises:
      UserError: on every process, if one sees another.
    """
    if several():
        together.check_shared(directory, flag)


def stop_agreed(step: int) -> bool:
    """Whether all processes stop after this step, because one of them was sent SIGTERM.

    To be called after every step, by all processes. It asks no device: JAX's coordinator passes a
    notice on within a second or two and picks the first step that no process has passed.
    """
    return several() and multihost_utils.reached_preemption_sync_point(step)


def leave(code: int, message: str = "") -> None:
    """Parts from the other processes; does nothing if there are none.

    After a failure (`code` is not 0) it does not return: the others are told, and end as well.

    Args:
      code: exit status.
      message: what the others say of a failure.
    """
    if not jax.distributed.is_initialized():
        return
    if _watch is not None:
        _watch.stop()
    if _last_words is not None:
        _last_words.communicate(b"done")
    if code:
        if _watch is not None:
            together.tell_failure(code, message)
        _part_in_failure(code)
    if _watch is not None:
        together.tell_end()


def _part_in_failure(code: int) -> NoReturn:
    # Who has come to its end in order waits for this process in JAX.
    if _watch is None or together.some_are_done():
        parting = threading.Thread(target=jax.distributed.shutdown, daemon=True)
        parting.start()
        parting.join(_PARTING_SECONDS)
    end(code)


def await_blame() -> None:
    """Gives the others time to say that one of them has failed, which ends this process.

    To be called where an error may be but the consequence of another process's.
    """
    if _watch is not None:
        time.sleep(_BLAMING_SECONDS + together.GRACE)


def end(code: int, *, explained: bool = False) -> NoReturn:
    """Ends this process at once: leaving Python in order would wait for the others.

    Args:
      code: exit status.
      explained: whether the user knows why, and no last words are needed.
    """
    if explained and _last_words is not None:
        _last_words.communicate(b"done")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
