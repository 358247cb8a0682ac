"""What the C library does with memory that was freed."""

import ctypes
import importlib.metadata
import importlib.util
import os

VARIABLE = "DISTILL_KEEP_MEMORY"
"""Of the environment; 0 or false leaves the C library as it is."""

_OFF = ("0", "false", "no", "off")

# Of glibc's <malloc.h>.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
_SETTINGS = {
    # XLA takes what a step needs in a thread of its own. Of a thread's arena, which is small, glibc
    # would map it whatever the next line says; of the only one it does not.
    _ARENA_MAX: 1,
    # Large blocks are parts of the heap, not mappings that end with them.
    _MMAP_MAX: 0,
    # The heap does not shrink.
    _TRIM_THRESHOLD: 2**31 - 1,
    # It grows by so much at least.
    _TOP_PAD: 64 * 2**20,
}


def keep_freed_memory() -> bool:
    """Has this process keep memory that it frees, to be taken again as it is.

    A step on a CPU takes hundreds of megabytes and gives them back. By default glibc returns such
    blocks to the system, which clears every page anew in the next step. What is kept is as much as
    the process had at its fullest. Call it before there are threads: those that have taken memory
    keep an arena of their own.

    Returns:
      whether it does now: not where `VARIABLE` is 0, the C library is another than glibc, or
      something else than this machine's CPUs may compute.
    """
    if os.environ.get(VARIABLE, "1").lower() in _OFF or not (_is_glibc() and _only_cpus()):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(name, value) == 1 for name, value in _SETTINGS.items()])


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except ValueError:
        # Other C libraries do not know the name.
        return False


def _only_cpus() -> bool:
    """Whether JAX will find nothing but CPUs; asking it would start its threads."""
    asked = os.environ.get("JAX_PLATFORMS")
    if asked:
        return asked == "cpu"
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    return not plugins and importlib.util.find_spec("libtpu") is None
