"""A disk that is full in the middle of a command, which ends as usual once there is room."""

import contextlib
import ctypes
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random

from benchmarks.chaos import forked, programs
from benchmarks.chaos.fault import LOST, Fault, Outcome
from benchmarks.chaos.faults import kills

_OF_ITS_OWN = 0x00020000
_ROOM = "256m"
_PROGRAMS = sorted(programs.PROGRAMS)


def _mount(place: Path, size: str, *, again: bool = False) -> bool:
    """Mounts memory as a disk, or gives it another size; whether that was possible."""
    options = f"{'remount,' if again else ''}size={size}"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _apart() -> bool:
    """Has what this process mounts be gone with it; whether that was possible."""
    if ctypes.CDLL(None).unshare(_OF_ITS_OWN):
        return False
    private = ["mount", "--make-rprivate", "/"]
    return subprocess.run(private, capture_output=True, check=False).returncode == 0


def _size(folder: Path) -> int:
    """Bytes that files take in whole pages, as they do in memory."""
    files = (one for one in folder.rglob("*") if one.is_file())
    return sum(-(-one.stat().st_size // 4096) * 4096 for one in files)


def trial(random: Random, directory: Path, given: Path) -> Outcome:
    """Runs a program where there is too little room, then where there is enough."""
    program = programs.PROGRAMS[random.choice(_PROGRAMS)]
    reference = program.reference(given)
    there = sum(_size(given / name) for name in program.copies)
    share = random.random() ** 2 * 1.2
    room = int(share * (_size(reference) - there)) // 4096 * 4096
    disk = directory / "disk"
    disk.mkdir()
    before: Callable[[], None] | None = None
    mounted = _apart() and _mount(disk, f"{there + room + 2**16}")
    if mounted:
        said = f"{program.name} with {room:,} bytes free"
    else:
        most = int(random.random() ** 3 * 2**17)
        said = f"{program.name} with files of at most {most:,} bytes"

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

        before = limit

    def give_room() -> None:
        if mounted:
            _mount(disk, _ROOM, again=True)

    own = disk / "own"
    try:
        program.begin(given, own)
    except (OSError, shutil.Error):
        # Not even what it starts from fits.
        give_room()
        shutil.rmtree(own, ignore_errors=True)
        program.begin(given, own)
    body = forked.command(program.arguments(given, own), before)
    ended = forked.run(body, directory / "full.log", seconds=programs.LIMIT)
    if ended.fault:
        return Outcome(ended.fault, said, ended.last)
    give_room()
    came = kills.compared(program, given, own, said, reference)
    if came.came == LOST:
        with contextlib.suppress(OSError, shutil.Error):
            shutil.copytree(own, directory / "kept", symlinks=True)
        return Outcome(came.came, said, f"{came.told}\nbefore: {ended.last}")
    return came


FAULT = Fault(
    name="disks",
    tries="a disk that is full after a share of what a command writes (a small tmpfs; where none "
    "can be mounted, a limit to the size of files); then the same command with room",
    trials=300,
    trial=trial,
    seconds=8 * programs.LIMIT,
)
