"""What the machine has."""

import contextlib
import os
import resource
import sys
from pathlib import Path

# Where control groups, of the second version and the first, say their limit and use, and which
# part of it is files that can be read again.
_GROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    (
        Path("/sys/fs/cgroup/memory"),
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def free_memory() -> int:
    """Bytes of memory that nothing has taken.

    Of the machine, or of the control group (container, Slurm job) if that has less.
    """
    free = [_available_of_system()]
    for group, limit, used, files in _GROUPS:
        with contextlib.suppress(OSError, ValueError, KeyError):
            # Where there is no limit, it says "max", which is no number, or a huge one.
            most, now = (int((group / name).read_text(encoding="utf-8")) for name in (limit, used))
            free.append(most - now + _numbers(group / "memory.stat")[files])
    return max(min(free), 0)


def _available_of_system() -> int:
    with contextlib.suppress(OSError, ValueError, KeyError):
        return _numbers(Path("/proc/meminfo"))["MemAvailable:"] * 1024
    # Systems that do not say what is free: what there is, without what this process has taken.
    unit = 1 if sys.platform == "darwin" else 1024
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") - taken


def _numbers(file: Path) -> dict[str, int]:
    """The lines `name number` of a file of the kernel's."""
    lines = (line.split() for line in file.read_text(encoding="utf-8").splitlines())
    return {line[0]: int(line[1]) for line in lines}
