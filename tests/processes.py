"""Runs of several processes, as a user starts them."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from support import REPOSITORY


def free_port() -> int:
    """A port of this machine at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start(workdir: Path, flags: Sequence[str], processes: int = 1, devices: int = 8) -> list:
    """Starts a pre-training; each process's output goes to a file beside the workdir."""
    command = ["-m", "pipelines.pretrain", *flags]
    added = [[]]
    if processes > 1:
        together = [
            f"--coordinator=127.0.0.1:{free_port()}",
            f"--processes={processes}",
            "--lost_after=8",
        ]
        added = [[*together, f"--process={number}"] for number in range(processes)]
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices // processes)}
    started = []
    for number, own in enumerate(added):
        with output(workdir, number).open("a") as out:
            started.append(
                subprocess.Popen(
                    [sys.executable, *command, *own],
                    cwd=REPOSITORY,
                    env=environment,
                    stdout=out,
                    stderr=out,
                )
            )
    return started


def output(workdir: Path, process: int) -> Path:
    return workdir.with_name(f"{workdir.name}.{process}.txt")


def ended(workdir: Path, processes: list, timeout: float = 180) -> list[int]:
    """Exit codes of the processes, which must end by themselves."""
    codes = []
    try:
        for process in processes:
            codes.append(process.wait(timeout))
    finally:
        for process in processes:
            process.kill()
    return codes


def complete(workdir: Path, flags: Sequence[str], *processes: int) -> None:
    """Runs to the end, as a user would: what hangs is killed, and started again.

    Gloo, by which JAX's processes speak to each other on CPUs, was seen to hang once, where two
    cores had the work of eight devices and of other tests.
    """
    try:
        codes = ended(workdir, start(workdir, flags, *processes))
    except subprocess.TimeoutExpired:
        codes = ended(workdir, start(workdir, flags, *processes))
    assert not any(codes), output(workdir, codes.index(max(codes))).read_text()


def saved(workdir: Path) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        return sorted(int(n) for n in os.listdir(workdir / "checkpoints") if n.isdigit())
    return []


def wait_for_a_checkpoint(workdir: Path, processes: list) -> None:
    deadline = time.monotonic() + 240
    while not saved(workdir):
        assert all(process.poll() is None for process in processes), "the run ended too early"
        assert time.monotonic() < deadline, "no checkpoint for four minutes"
        time.sleep(0.02)
