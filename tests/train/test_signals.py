"""How signals stop a run, and output that nobody reads does not."""

import os
import signal
import subprocess
import sys

import pytest
from support import REPOSITORY

from distill.train.checkpoints import Checkpoints
from distill.train.signals import StopRequest, Terminated, ended_at_once, orderly_end
from distill.train.workdir import Gone, Workdir


@pytest.fixture(autouse=True)
def not_under_nohup():
    """Whoever runs the tests may have it ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_each_signal_asks_to_stop(number):
    with StopRequest() as request:
        assert request.after(1) is None
        os.kill(os.getpid(), number)
        assert request.after(2) == signal.Signals(number).name


def test_one_of_several_processes_stops_when_all_do(monkeypatch):
    monkeypatch.setattr("distill.parallel.distributed.several", lambda: True)
    monkeypatch.setattr("distill.parallel.distributed.stop_agreed", lambda step: step == 3)
    # JAX listens to it.
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with StopRequest() as request:
            os.kill(os.getpid(), signal.SIGINT)
            assert [request.after(step) for step in (1, 2, 3)] == [None, None, "SIGINT"]
    finally:
        signal.signal(signal.SIGTERM, before)


COMPUTING = """
import os, signal, sys, threading
from distill.train.signals import ended_at_once, orderly_end
if sys.argv[2] == "ignored":
    signal.signal(int(sys.argv[1]), signal.SIG_IGN)
with orderly_end(), ended_at_once():
    os.kill(os.getpid(), int(sys.argv[1]))
    print("went on")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("ignored", [False, True])
def test_a_library_that_computes_is_ended_at_once(number, ignored):
    arguments = [str(int(number)), "ignored" if ignored else ""]
    run = subprocess.run(
        [sys.executable, "-c", COMPUTING, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    # SIGTERM that whoever started this ignores still ends a command in order.
    expected = (0, "went on\n") if ignored and number == signal.SIGHUP else (-number, "")
    if ignored and number == signal.SIGINT:
        expected = (0, "went on\n")
    assert (run.returncode, run.stdout) == expected


def test_handlers_are_back_when_the_library_is_done():
    with orderly_end():
        before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        with ended_at_once():
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        after = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert before == after


def test_a_second_sigterm_ends_nothing():
    with StopRequest() as request:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert request.after(1) == "SIGTERM"


def test_a_hang_up_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with orderly_end(), StopRequest() as request:
            os.kill(os.getpid(), signal.SIGHUP)
            assert request.after(1) is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_hang_up_where_nothing_saves_ends_in_order():
    before = signal.getsignal(signal.SIGHUP)
    with pytest.raises(Terminated) as caught, orderly_end():
        os.kill(os.getpid(), signal.SIGHUP)
    assert caught.value.exit_code == 128 + signal.SIGHUP
    assert signal.getsignal(signal.SIGHUP) == before


def test_ctrl_c_says_what_it_waits_for_and_the_third_ends_at_once():
    script = (
        "import os, signal\n"
        "from distill.train.signals import StopRequest\n"
        "with StopRequest(lambda: 'step 7 stands'):\n"
        "    for number in range(3):\n"
        "        print(number, flush=True)\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "print('never')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (130, "0\n1\n2\n")
    assert [line for line in done.stderr.splitlines() if line] == [
        "stopping after this step, once it is saved",
        "still saving; Ctrl-C once more ends at once, and step 7 stands",
        "ended at once; step 7 stands",
    ]


PRINTS = (
    "import os, sys\n"
    "from distill.command.streams import keep_streams\n"
    "keep_streams(output=True)\n"
    "for number in range(20000):\n"
    "    print('x' * 50)\n"
    "    print('x' * 50, file=sys.stderr)\n"
    "sys.stdout.flush()\n"
    "os.write(2, b'a library')\n"
    "with open(sys.argv[1], 'w') as file:\n"
    "    assert file.fileno() > 2\n"
    "    file.write('done')\n"
)


@pytest.mark.parametrize("how", [">&- 2>&-", "<&- >&- 2>&-", "> /dev/full 2> /dev/full", "2>&1"])
def test_output_that_nobody_takes_fails_nothing(how, tmp_path):
    file = tmp_path / "file"
    done = subprocess.Popen(
        ["bash", "-c", f'exec "$0" -c "$1" "$2" {how}', sys.executable, PRINTS, str(file)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert done.stdout is not None
    # As `head` does, where it is a pipe.
    done.stdout.close()
    assert done.wait(60) == 0
    assert file.read_text() == "done"


def test_a_workdir_that_has_gone_is_told(tmp_path):
    workdir = Workdir(tmp_path / "run")
    workdir.check_there()
    (tmp_path / "run").rename(tmp_path / "moved")
    with pytest.raises(Gone, match="was deleted, moved or replaced"):
        workdir.check_there()
    (tmp_path / "run").mkdir()
    with pytest.raises(Gone), workdir.at_work():
        raise FileNotFoundError("a library's")
    (tmp_path / "run").rmdir()
    (tmp_path / "moved").rename(tmp_path / "run")
    with pytest.raises(KeyError), workdir.at_work():
        raise KeyError("its own")


def test_what_a_kill_kept_from_being_pruned_is_pruned(tmp_path):
    import jax.numpy as jnp

    from distill.train.state import TrainState

    def state(step: int) -> TrainState:
        return TrainState(
            jnp.asarray(step, "int32"), {"a": jnp.zeros(2)}, {"b": jnp.zeros(2)}, None
        )

    every = Checkpoints(tmp_path)
    for step in (10, 20, 30, 40, 50):
        every.save(state(step), {})
    every.close()
    some = Checkpoints(tmp_path, keep=2, keep_every=20)
    assert some.steps == [10, 20, 30, 40, 50]
    some.prune(also=10)
    assert some.steps == [10, 20, 40, 50]
    some.prune()
    some.close()
    assert Checkpoints(tmp_path, read_only=True).steps == [20, 40, 50]
