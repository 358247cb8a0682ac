"""How the processes of a run find each other, before JAX connects them.

JAX's coordinator ends a process from C++, or lets it wait, where two processes have one number, one
never comes, or its port is taken. So the processes meet beforehand, at the same address: process 0
listens, everybody says in a line of JSON who they are and how they were started, and is told in
another line to go on, or why not. Then the port is left to JAX.
"""

import contextlib
import errno
import itertools
import json
import os
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from distill.errors import UserError

# What is said to whoever connects: JAX's coordinator, or another program, says something else.
_GREETING = b"distill: who is there?\n"
_LONGEST = 2**20

# Seconds that a port may still be another run's that is ending.
_PATIENCE = 5.0
# Seconds for which others may yet come, once it is known that some do not belong together.
_GATHERING = 10.0
# Seconds for which process 0 is waited for beyond the own limit: its clock began later.
_LATER = 15.0
_PAUSE = 0.2
_MOST_NAMED = 5


def meet(
    coordinator: str,
    processes: int,
    process: int,
    about: Mapping[str, Any],
    timeout: float,
    *,
    given: str = "--coordinator",
) -> None:
    """Returns when all processes have come, and were started alike.

    Args:
      coordinator: HOST:PORT, where process 0 runs.
      processes: how many there are.
      process: which this one is.
      about: what must be the same for all, by name, as JSON can hold it.
      timeout: seconds to wait for all to come.
      given: what the address is called in errors.

    Raises:
      UserError: saying on each process what is wrong: the port is taken, a process is missing, two
        have one number, or what differs.
    """
    me = {
        "process": process,
        "processes": processes,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "token": secrets.token_hex(16),
        "about": dict(about),
    }
    if process:
        _come(coordinator, me, timeout, given)
        return
    with _listening(coordinator, me, timeout, given):
        _come(coordinator, me, timeout, given)


@contextlib.contextmanager
def _listening(coordinator: str, me: dict[str, Any], timeout: float, given: str):
    """While entered, process 0 waits for the others, in a thread."""
    try:
        server = _bound(coordinator)
    except OSError as error:
        port = coordinator.rpartition(":")[2]
        if error.errno == errno.EADDRINUSE:
            # Another process 0 of this run tells both of us.
            with contextlib.suppress(_Elsewhere, OSError):
                _ask(coordinator, me, time.monotonic() + _GATHERING + _LATER)
            raise UserError(
                f"port {port} of {given}={coordinator} is in use on this machine, by another run "
                "or another program; choose another port, the same on all processes"
            ) from error
        raise UserError(
            f"cannot listen at port {port} of {given}={coordinator}: {error.strerror}; choose "
            "another port, the same on all processes"
        ) from error
    waiting = threading.Thread(target=_Meeting(server, me, timeout).run, daemon=True)
    waiting.start()
    try:
        yield
    finally:
        # What it was told, it has told the others as well.
        waiting.join(_PATIENCE)
        server.close()


def _bound(coordinator: str) -> socket.socket:
    """A socket that listens where JAX's coordinator is going to."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            if where := os.environ.get("JAX_COORDINATOR_BIND_ADDRESS"):
                host, port = _split(where)
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                return socket.create_server((host, port), family=family, backlog=1024)
            address = ("", _split(coordinator)[1])
            if socket.has_dualstack_ipv6():
                return socket.create_server(
                    address, family=socket.AF_INET6, backlog=1024, dualstack_ipv6=True
                )
            return socket.create_server(address, backlog=1024)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


class _Elsewhere(Exception):
    """What answers does not wait for processes of a run."""


def _come(coordinator: str, me: dict[str, Any], timeout: float, given: str) -> None:
    """Says who this process is, as soon as somebody listens, and heeds the answer."""
    began = time.monotonic()
    deadline, refused = began + timeout, None
    # Process 0 listens already: it finds itself soon, or not at all.
    patience = min(timeout, _PATIENCE) if me["process"] == 0 else timeout
    while True:
        why = ""
        try:
            _ask(coordinator, me, deadline + _LATER)
            return
        except _Elsewhere:
            refused = refused or time.monotonic()
            if time.monotonic() - refused > _PATIENCE:
                raise UserError(
                    f"what answers at {given}={coordinator} does not wait for processes: a run is "
                    "at work there already, or it is another program. Wait for its end, or choose "
                    "another port, the same on all processes"
                ) from None
        except OSError as error:
            why, refused = error.strerror or str(error), None
        if time.monotonic() - began > patience:
            raise UserError(_unanswered(coordinator, me["process"], timeout, given, why))
        time.sleep(_PAUSE)


def _unanswered(coordinator: str, process: int, timeout: float, given: str, why: str) -> str:
    if process == 0:
        return (
            f"process 0 listens on {socket.gethostname()}, but does not find itself at "
            f"{given}={coordinator} ({why}): process 0 must run on that host"
        )
    return (
        f"waited {timeout:g} seconds for the other processes, but nobody answers at "
        f"{given}={coordinator} ({why}); start process 0 on that host and see that the port is "
        "reachable (--start_timeout waits longer)"
    )


def _ask(coordinator: str, me: dict[str, Any], deadline: float) -> None:
    """Says who this process is to whoever listens, and waits for the answer.

    Raises:
      UserError: the answer, if the run cannot begin.
      OSError: if nobody listens, or no longer.
      _Elsewhere: if it is something else that listens.
    """
    left = max(deadline - time.monotonic(), 1.0)
    with (
        socket.create_connection(_split(coordinator), timeout=min(left, _PATIENCE)) as one,
        one.makefile("rb") as lines,
    ):
        try:
            greeting = lines.readline(len(_GREETING))
        except TimeoutError:
            greeting = b""
        if greeting != _GREETING:
            raise _Elsewhere
        one.sendall(json.dumps(me).encode() + b"\n")
        one.settimeout(left)
        answer = lines.readline(_LONGEST)
    if not answer.endswith(b"\n"):
        raise ConnectionResetError(errno.ECONNRESET, "process 0 has ended")
    if problem := json.loads(answer)["problem"]:
        raise UserError(problem)


class _Meeting:
    """What process 0 does until all have come.

    Args:
      server: where it listens.
      me: what it says of itself.
      timeout: seconds to wait.
    """

    def __init__(self, server: socket.socket, me: dict[str, Any], timeout: float):
        self._server, self._me = server, me
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._came: dict[socket.socket, dict[str, Any]] = {}
        self._heard: dict[socket.socket, bytes] = {}

    def run(self) -> None:
        """Listens until it is known whether the run can begin, and tells everybody."""
        problem, found = None, ""
        with selectors.DefaultSelector() as selector:
            self._server.setblocking(False)
            selector.register(self._server, selectors.EVENT_READ)
            while (left := self._deadline - time.monotonic()) > 0:
                for key, _ in selector.select(min(left, 1.0)):
                    if key.fileobj is self._server:
                        self._accept(selector)
                    elif isinstance(key.fileobj, socket.socket):
                        self._hear(key.fileobj, selector)
                found = self._wrong()
                if len(self._numbers()) == self._me["processes"]:
                    problem = found
                    break
                if found:
                    self._deadline = min(self._deadline, time.monotonic() + _GATHERING)
            if problem is None:
                problem = found or self._missing()
        answer = json.dumps({"problem": problem}).encode() + b"\n"
        for one in self._heard:
            with contextlib.suppress(OSError):
                one.settimeout(_PATIENCE)
                one.sendall(answer)
            one.close()
        self._server.close()

    def _accept(self, selector: selectors.BaseSelector) -> None:
        with contextlib.suppress(OSError):
            one, _ = self._server.accept()
            one.setblocking(False)
            one.send(_GREETING)
            self._heard[one] = b""
            selector.register(one, selectors.EVENT_READ)

    def _hear(self, one: socket.socket, selector: selectors.BaseSelector) -> None:
        try:
            heard = one.recv(2**16)
        except BlockingIOError:
            return
        except OSError:
            heard = b""
        self._heard[one] += heard
        said = _said(self._heard[one])
        if heard and said is None and len(self._heard[one]) < _LONGEST:
            return
        if heard and said:
            self._came[one] = said
            return
        # It has gone, and may come again; or it is no process of a run.
        selector.unregister(one)
        one.close()
        del self._heard[one]
        self._came.pop(one, None)

    def _numbers(self) -> set[int]:
        return {one["process"] for one in self._came.values()}

    def _wrong(self) -> str:
        """Why those that have come do not belong together; nothing if they do."""
        came = sorted(self._came.values(), key=lambda one: (one["process"], one["token"]))
        counts = {one["processes"] for one in came}
        if len(counts) > 1:
            said = differences([{"--processes": one["processes"]} for one in came], _names(came))
            return f"the processes were told of different numbers of processes\n{said}"
        for one, other in itertools.pairwise(came):
            if one["process"] == other["process"]:
                return (
                    f"two processes say that they are process {one['process']} of "
                    f"{one['processes']}: {_where(one)} and {_where(other)}. Give each a "
                    "--process of its own, from 0; of an earlier try, end what is left"
                )
        if said := differences([one["about"] for one in came], _names(came)):
            return (
                f"the processes were not started alike\n{said}\n"
                "Start the same command on all of them"
            )
        return ""

    def _missing(self) -> str:
        numbers = self._numbers()
        missing = [one for one in range(self._me["processes"]) if one not in numbers]
        return (
            f"waited {self._timeout:g} seconds for the other processes, but only {len(numbers)} of "
            f"{self._me['processes']} came; process {_listed(missing)} did not. Start the same "
            "command for each of them (--start_timeout waits longer)"
        )


def _said(heard: bytes) -> dict[str, Any] | None:
    """What a process said of itself; None as long as it has not, empty if that is nothing."""
    if not heard.endswith(b"\n"):
        return None
    try:
        said = json.loads(heard)
        kinds = {"process": int, "processes": int, "host": str, "pid": int, "token": str}
        if all(isinstance(said[key], kind) for key, kind in kinds.items()):
            return said if isinstance(said["about"], dict) else {}
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return {}


def _where(one: Mapping[str, Any]) -> str:
    return f"PID {one['pid']} on {one['host']}"


def _names(came: Iterable[Mapping[str, Any]]) -> list[str]:
    return [str(one["process"]) for one in came]


def _listed(names: Sequence[Any]) -> str:
    shown = ", ".join(map(str, names[:_MOST_NAMED]))
    return shown + (f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else "")


def differences(said: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """A line for each key whose value is not the same in all mappings, and who has which.

    Args:
      said: by each process; what one does not have is None.
      names: of the processes.
    """
    lines = []
    for key in dict.fromkeys(key for one in said for key in one):
        who: dict[str, list[str]] = {}
        for one, name in zip(said, names, strict=True):
            who.setdefault(json.dumps(one.get(key), sort_keys=True), []).append(name)
        if len(who) > 1:
            values = (f"{_value(text)} on process {_listed(those)}" for text, those in who.items())
            lines.append(f"  {key}: {', '.join(values)}")
    return "\n".join(lines)


def _value(text: str) -> str:
    value = json.loads(text)
    if value is None:
        return "nothing"
    return value if isinstance(value, str) else text
