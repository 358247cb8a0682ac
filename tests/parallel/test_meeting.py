"""Processes meet before JAX connects them: only those that belong together go on."""

import os
import socket
import threading
import time

import pytest
from processes import free_port

from distill.errors import UserError
from distill.parallel import meeting

ALIKE = {"--workdir": "/runs/a", "the version of this project": "1"}


def outcomes(*calls: tuple[int, int, dict], timeout: float = 10.0, port: int = 0) -> list[str]:
    """What each of several processes, which are threads here, is told; nothing if it goes on."""
    told, address = [""] * len(calls), f"127.0.0.1:{port or free_port()}"

    def come(place: int, process: int, processes: int, about: dict) -> None:
        try:
            meeting.meet(address, processes, process, about, timeout)
        except UserError as error:
            told[place] = str(error)

    threads = [threading.Thread(target=come, args=(i, *one)) for i, one in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return told


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    for name, seconds in dict(_PATIENCE=0.5, _GATHERING=0.5, _LATER=3.0, _PAUSE=0.02).items():
        monkeypatch.setattr(meeting, name, seconds)


def test_all_go_on_and_the_port_is_free_again():
    port = free_port()
    assert outcomes((2, 3, ALIKE), (0, 3, ALIKE), (1, 3, ALIKE), port=port) == ["", "", ""]
    assert outcomes((0, 1, ALIKE), port=port) == [""]
    socket.create_server(("127.0.0.1", port)).close()


def test_all_are_told_what_differs_and_who_has_what():
    other = {"--workdir": "/runs/b", "the version of this project": "1", "--config.seed": "3"}
    told = outcomes((0, 3, ALIKE), (1, 3, other), (2, 3, ALIKE))
    assert len(set(told)) == 1
    assert "--workdir: /runs/a on process 0, 2, /runs/b on process 1" in told[0]
    assert "--config.seed: nothing on process 0, 2, 3 on process 1" in told[0]
    assert "version" not in told[0]


@pytest.mark.parametrize("number", [0, 1])
def test_two_with_one_number_are_told_so(number):
    told = outcomes((0, 3, ALIKE), (number, 3, ALIKE), (1, 3, ALIKE))

    wanted = f"two processes say that they are process {number} of 3: PID {os.getpid()} on "
    assert all(wanted in one for one in told)


def test_a_missing_process_is_named():
    told = outcomes((0, 4, ALIKE), (2, 4, ALIKE), timeout=1.0)
    assert len(set(told)) == 1
    assert "waited 1 seconds for the other processes, but only 2 of 4 came" in told[0]
    assert "process 1, 3 did not" in told[0]


def test_other_numbers_of_processes_are_told():
    told = outcomes((0, 2, ALIKE), (1, 3, ALIKE))
    assert all("--processes: 2 on process 0, 3 on process 1" in one for one in told)


def test_a_process_without_process_0_says_where_nobody_answers():
    (told,) = outcomes((1, 2, ALIKE), timeout=0.3)
    assert "nobody answers at --coordinator=127.0.0.1:" in told


@pytest.mark.parametrize("speaks", [True, False])
def test_a_port_in_use_by_something_else_is_told(speaks):
    with socket.create_server(("127.0.0.1", 0)) as other:

        def serve():
            held = []
            while True:
                try:
                    held.append(other.accept()[0])
                except OSError:
                    return
                if speaks:
                    # As JAX's coordinator does: a frame of HTTP/2.
                    held[-1].sendall(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = other.getsockname()[1]
        began = time.monotonic()
        told = outcomes((0, 2, ALIKE), (1, 2, ALIKE), port=port)
        assert time.monotonic() - began < 8
        other.shutdown(socket.SHUT_RDWR)
    assert f"port {port} of --coordinator=127.0.0.1:{port} is in use on this machine" in told[0]
    assert "does not wait for processes: a run is at work there already" in told[1]


def test_who_talks_nonsense_or_leaves_does_not_count():
    port = free_port()

    def disturb():
        deadline = time.monotonic() + 5
        for said in (b"GET / HTTP/1.1\r\n\r\n", b'{"process": 1}\n', b"[" * 9000 + b"\n", b""):
            while time.monotonic() < deadline:
                try:
                    with socket.create_connection(("127.0.0.1", port)) as one:
                        one.sendall(said)
                        one.shutdown(socket.SHUT_WR)
                        one.recv(100)
                    break
                except OSError:
                    time.sleep(0.02)

    disturbing = threading.Thread(target=disturb)
    disturbing.start()

    def late():
        disturbing.join()
        late_told.extend(outcomes((1, 2, ALIKE), port=port))

    late_told: list[str] = []
    later = threading.Thread(target=late)
    later.start()
    assert outcomes((0, 2, ALIKE), port=port) == [""]
    later.join()
    assert late_told == [""]


def test_process_0_on_another_host_does_not_find_itself():
    address = f"127.0.0.2:{free_port()}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COORDINATOR_BIND_ADDRESS", address.replace("127.0.0.2", "127.0.0.1"))
        with pytest.raises(UserError, match="process 0 must run on that host"):
            meeting.meet(address, 2, 0, ALIKE, 1.0)


def test_many_values_are_abbreviated():
    said = meeting.differences([{"a": 1}] * 9 + [{"a": None}], [str(one) for one in range(10)])
    assert said == "  a: 1 on process 0, 1, 2, 3, 4 and 4 more, nothing on process 9"
    assert meeting.differences([{"a": 1}, {"a": 1}], ["0", "1"]) == ""
