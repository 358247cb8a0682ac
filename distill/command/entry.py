"""Where the command `distill` starts: it sees to it that what it runs is the project's own."""

import contextlib
import gc
import importlib.util
import os
import runpy
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import distill
from distill.command.allocator import keep_freed_memory
from distill.errors import UserError

PACKAGES = ("configs", "pipelines", "students", "teachers")


def main() -> None:
    """Runs `pipelines.cli`, unless something else has taken the name of one of our packages."""
    # Before anything is imported that has threads.
    keep_freed_memory()
    # What is imported stays: to look through it for garbage again and again takes a tenth of it.
    gc.disable()
    try:
        check_packages()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    try:
        with interruptible():
            runpy.run_module("pipelines.cli", run_name="__main__")
    except ValueError as error:
        if not _is_of_settings(error):
            raise
        print(f"error: JAX cannot be imported as the environment has it: {error}", file=sys.stderr)
        sys.exit(UserError.exit_code)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Ends a command that Ctrl-C finds importing in a word; once it runs it says more by itself.

    An interruption that is raised amid an import may come out of it as any other error.
    """
    heeds = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    heeds = heeds and threading.current_thread() is threading.main_thread()
    if heeds:
        signal.signal(signal.SIGINT, _stop)
    try:
        yield
    except KeyboardInterrupt:
        _stop()
    finally:
        if heeds:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_of_settings(error: BaseException) -> bool:
    """Whether JAX has met a variable of the environment that it cannot read, at its import."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    where = Path(frame.tb_frame.f_code.co_filename) if frame else Path()
    return where.parts[-3:] == ("jax", "_src", "config.py")


def _stop(*_: object) -> NoReturn:
    with contextlib.suppress(OSError):
        os.write(2, b"\nstopped\n")
    # To take apart what is half imported may fail.
    os._exit(128 + signal.SIGINT)


def imported() -> None:
    """Has Ctrl-C raise again, and the garbage collector leave alone what is there by now."""
    if signal.getsignal(signal.SIGINT) is _stop:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.freeze()
    gc.enable()


def check_packages() -> None:
    """Checks that the packages beside `distill` are those that came with it.

    Python imports the first package of a name on its path. What stands on PYTHONPATH, and the
    current directory of `python -m`, come before what is installed.

    Raises:
      UserError: naming what hides which package, and what to do.
    """
    home = Path(distill.__file__).resolve().parents[1]
    for name in PACKAGES:
        found = _location(name)
        if found is None:
            raise UserError(
                f"the package {name} is not there: it belongs in {home}, beside the package "
                "distill; install the project anew"
            )
        if found.parent != home:
            raise UserError(
                f"{found} hides this project's package {name}, which is in {home}: Python looks in "
                f"{found.parent} first{_why(found.parent)}. Rename {found.name} there, or "
                "take that directory off Python's path"
            )


def _location(name: str) -> Path | None:
    """The folder or file that `import name` would take."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    places = [*(spec.submodule_search_locations or ()), spec.origin]
    return Path(places[0] or "").resolve()


def _why(directory: Path) -> str:
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if directory in {Path(one).resolve() for one in named if one}:
        return ", because PYTHONPATH names it"
    return ", because it is the current directory" if directory == Path.cwd() else ""
