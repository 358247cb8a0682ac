"""What the processes of a run tell each other beside their computations.

It goes through JAX's coordinator, which answers also where a device would not: before anything is
compiled, and while others wait in a computation for a process that has failed.
"""

import contextlib
import itertools
import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import jax
from jax._src import distributed as coordination

from distill.errors import UserError
from distill.parallel import meeting
from distill.parallel.last_words import newest_checkpoint

# Seconds in which all processes come to the same place of the start.
_PATIENCE = 300.0
# Seconds for which a shared file system may hide what another machine wrote.
_HIDDEN = 15.0
# Seconds between two looks at whether another process has failed; of more processes longer.
_LOOK = 1.0
_LOOK_OF_EACH = 0.002
GRACE = 2.0
"""Seconds that a process is given to fail in the same way by itself."""
# Seconds for which a process that has failed waits for the others to have heard of it.
_HEARING = 20.0

_FAILED, _HEARD = "distill/failed/", "distill/heard/"
_calls = itertools.count()


def _client() -> Any:
    return coordination.global_state.client


def _ask_all(question: str, said: str, judge: Callable[[list[str]], str]) -> None:
    """Has process 0 judge what all say; every process must call it, in the same order.

    Raises:
      UserError: on every process, with the judgement, if it says anything.
    """
    client, place = _client(), f"distill/{question}/{next(_calls)}"
    milliseconds = int(_PATIENCE * 1000)
    client.key_value_set(f"{place}/{jax.process_index()}", said)
    try:
        if jax.process_index() == 0:
            heard = [
                client.blocking_key_value_get(f"{place}/{number}", milliseconds)
                for number in range(jax.process_count())
            ]
            client.key_value_set(f"{place}/judged", judge(heard))
        # Process 0 may wait for others before it judges.
        judged = client.blocking_key_value_get(f"{place}/judged", milliseconds + 5000)
    except jax.errors.JaxRuntimeError as error:
        if "DEADLINE_EXCEEDED" not in str(error):
            raise
        raise UserError(
            f"the processes did not come to the same place of the start within {_PATIENCE:g} "
            "seconds; see what the others print, end them, and start the same command on all"
        ) from error
    if judged:
        raise UserError(judged)


def check_same(what: str, content: Mapping[str, Any]) -> None:
    """Checks that a mapping, as JSON can hold it, is the same on all processes; all must call it.

    Raises:
      UserError: on every process, if it differs: which keys, and which process has what.
    """
    flat = dict(_flat(content))

    def judge(heard: list[str]) -> str:
        names = [str(number) for number in range(len(heard))]
        different = meeting.differences([json.loads(one) for one in heard], names)
        return different and (
            f"{what} is not the same on all processes\n{different}\n"
            "Start the same command on all of them, with the same files"
        )

    _ask_all("same", json.dumps(flat), judge)


def _flat(content: Any, name: str = "") -> Any:
    if not isinstance(content, Mapping):
        yield name, content
        return
    for key, value in content.items():
        yield from _flat(value, f"{name}.{key}" if name else str(key))


def check_shared(directory: Path, flag: str) -> None:
    """Checks that all processes see one directory under a path; all must call it.

    Args:
      directory: that is there on all of them; process 0 writes a file to it and removes it.
      flag: by which the path was given.

    Raises:
      UserError: on every process, naming those that see another one.
    """
    client, number = _client(), jax.process_index()
    key = f"distill/shared/{next(_calls)}"
    if number == 0:
        file = directory / f".together-{os.urandom(8).hex()}"
        file.touch()
        client.key_value_set(key, file.name)
    else:
        file = directory / client.blocking_key_value_get(key, int(_PATIENCE * 1000))
    deadline = time.monotonic() + _HIDDEN
    while not (sees := file.exists()) and time.monotonic() < deadline:
        # Looking at the whole directory refreshes what a network file system remembers of it.
        os.listdir(directory)
        time.sleep(0.2)

    def judge(heard: list[str]) -> str:
        blind = [f"{number} (on {one})" for number, one in enumerate(heard) if one]
        if not blind:
            return ""
        return (
            f"{flag}={directory} is another directory on process {', '.join(blind)} than on "
            f"process 0 (on {socket.gethostname()}): what process 0 writes there is not seen. Give "
            "a directory on a file system that all processes share"
        )

    try:
        _ask_all("sees", "" if sees else socket.gethostname(), judge)
    finally:
        if number == 0:
            file.unlink(missing_ok=True)


class Watch:
    """Ends this process if another one has failed and said so.

    Args:
      workdir: whose newest checkpoint to name.
      end: ends this process with an exit status.
    """

    def __init__(self, workdir: Path | None, end: Callable[[int], NoReturn]):
        self._workdir, self._end = workdir, end
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pause = max(_LOOK, _LOOK_OF_EACH * jax.process_count())
        while not self._leaving.wait(pause):
            try:
                failed = _client().key_value_dir_get(_FAILED)
            # The coordinator is gone, of which JAX tells.
            except (jax.errors.JaxRuntimeError, AttributeError):
                return
            if failed and not self._leaving.wait(GRACE):
                self._follow(*failed[0])

    def _follow(self, key: str, failure: str) -> NoReturn:
        said = json.loads(failure)
        name = f"process {jax.process_index()} of {jax.process_count()}"
        message = (
            f"ended, because process {key.rpartition('/')[2]} (on {said['host']}) failed: "
            f"{said['message']}{_go_on(self._workdir)}"
        )
        logging.getLogger("distill.printed").info("error: %s", message)
        print(f"{name}: error: {message}", file=sys.stderr, flush=True)
        _part()
        self._end(said["code"])

    def stop(self) -> None:
        """Leaves this process alone from now on."""
        self._leaving.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(GRACE)


def _go_on(workdir: Path | None) -> str:
    if workdir is None:
        return ""
    step = newest_checkpoint(str(workdir))
    if step is None:
        return ""
    return (
        f"\nThe checkpoint of step {step} stands: once that is mended, run the same command again "
        "on all processes to resume from it"
    )


def tell_failure(code: int, message: str) -> None:
    """Tells the other processes that this one has failed, and waits until all have heard of it.

    Those that have failed as well have nothing to hear.

    Args:
      code: exit status, which becomes theirs.
      message: what they are to say.
    """
    said = json.dumps({"code": code, "message": message, "host": socket.gethostname()})
    client = _client()
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        client.key_value_set(f"{_FAILED}{jax.process_index()}", said, allow_overwrite=True)
        _wait_for(lambda: _said(_FAILED) | _said(_HEARD))
    _part()


def _part() -> None:
    """Says that this process ends now; the one that runs the coordinator waits for the others.

    JAX would end those that are there still, with a trace from C++.
    """
    number = jax.process_index()
    # Where the coordinator is gone already, nobody is to be told.
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        _client().key_value_set(f"{_HEARD}{number}", "", allow_overwrite=True)
        if number == 0:
            _wait_for(lambda: _said(_HEARD))
            time.sleep(0.5)


def _said(where: str) -> dict[str, str]:
    """What processes said there, by their numbers."""
    return {key.rpartition("/")[2]: said for key, said in _client().key_value_dir_get(where)}


def _wait_for(heard: Callable[[], Mapping[str, str]]) -> None:
    deadline = time.monotonic() + _HEARING
    while len(heard()) < jax.process_count() and time.monotonic() < deadline:
        time.sleep(0.1)


def tell_end() -> None:
    """Tells those that fail later that this process has come to its end and needs no word."""
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        key = f"{_HEARD}{jax.process_index()}"
        _client().key_value_set(key, "done", allow_overwrite=True)


def some_are_done() -> bool:
    """Whether a process has come to its end in order, and waits to part from the others."""
    try:
        return "done" in _said(_HEARD).values()
    except jax.errors.JaxRuntimeError:
        return False
