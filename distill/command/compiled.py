"""Compiled programs, kept in the user's cache for the next command that needs the same ones."""

import contextlib
import glob
import os
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

import filelock
import jax

from distill.errors import UserError
from distill.parallel.printed import say
from distill.paths import user_cache

# Of all that is kept; what was used longest ago goes first.
_MOST_BYTES = 2**30
# Smaller programs are compiled as fast as they are read.
_LEAST_SECONDS = 0.1
_SETTINGS = {
    "jax_compilation_cache_max_size": _MOST_BYTES,
    "jax_persistent_cache_min_compile_time_secs": _LEAST_SECONDS,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
_OFF = "JAX_ENABLE_COMPILATION_CACHE=false"
# As JAX has it.
_LOCK, _PROGRAM, _USED = ".lockfile", "-cache", "-atime"
_ABOUT = re.compile(
    r"Error (?P<done>reading|writing) persistent compilation cache entry for '(?P<name>.*?)': "
    r"(?P<why>.*)",
    re.DOTALL,
)


def keep_compiled() -> None:
    """Has JAX keep what it compiles from now on, and take what was kept before.

    A program is found by what it computes, the versions of jaxlib and backend, XLA's flags and the
    device, of a CPU with what it can do, so that machines may share a home directory. Whoever sets
    JAX_COMPILATION_CACHE_DIR has all of it as JAX does it, and JAX_ENABLE_COMPILATION_CACHE=false
    keeps nothing. Where nothing can be written, that is said, and the command goes on without.
    """
    # JAX makes its options attributes while it starts.
    config: Any = jax.config
    if config.jax_compilation_cache_dir or not config.jax_enable_compilation_cache:
        return
    try:
        place = user_cache() / "compiled"
        _prepare(place)
    except (OSError, NotImplementedError, UserError) as error:
        _remark(str(error))
        return
    for name, value in _SETTINGS.items():
        if name.upper() not in os.environ:
            config.update(name, value)
    config.update("jax_compilation_cache_dir", str(place))
    _tell_once(place)


def _prepare(place: Path) -> None:
    """Sees that files can be written, and removes what a process that was killed began to write.

    Raises:
      OSError: if they cannot.
    """
    # What is read here is run: nobody else may write it.
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=place) as file:
        file.write(bytes(2**16))
    # Who holds the lock is at work, and removes nothing that is not whole.
    with contextlib.suppress(filelock.Timeout), filelock.FileLock(place / _LOCK, timeout=0):
        for program in place.glob(f"*{_PROGRAM}"):
            used = program.with_name(program.name.removesuffix(_PROGRAM) + _USED)
            # It is written after the program, and without it JAX would not write another one.
            if not used.is_file() or used.stat().st_size != 8:
                program.unlink(missing_ok=True)
                used.unlink(missing_ok=True)


def _tell_once(place: Path) -> None:
    """Has one warning told of programs that cannot be written or read, in few words.

    Of those that cannot be read, what may be the damaged file is deleted: JAX compiles the program
    again, and would not write it where there is one.
    """
    told, show = [], warnings.showwarning

    def show_once(message, *args, **more) -> None:
        words = str(message)
        found = _ABOUT.match(words)
        if found is None:
            show(message, *args, **more)
            return
        if found["done"] == "reading":
            for ending in (_PROGRAM, _USED):
                for file in place.glob(f"{glob.escape(found['name'])}-*{ending}"):
                    file.unlink(missing_ok=True)
        if told:
            return
        told.append(words)
        if found["done"] == "reading":
            say(
                f"warning: a compiled program in {place} could not be read ({found['why']}); it is "
                "compiled again, and kept in its place"
            )
        else:
            _remark(found["why"], place)

    warnings.showwarning = show_once


def _remark(reason: str, place: Path | None = None) -> None:
    where = "" if place is None else f" in {place}"
    say(
        f"warning: not every compiled program is kept{where} for the next command ({reason}), "
        f"which may have to compile it again; {_OFF} keeps none"
    )
