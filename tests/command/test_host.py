"""Commands that need no JAX end as all others do."""

import signal
import subprocess
import sys

import pytest
from absl import flags
from support import REPOSITORY

from distill.command.host import launch_host
from distill.errors import RunFailed, UserError


@pytest.fixture
def start(capsys):
    def start(body, *arguments):
        values = flags.FlagValues()
        flags.DEFINE_string("name", None, "Of something.", flag_values=values)
        with pytest.raises(SystemExit) as caught:
            launch_host("Does things.", values, body, arguments)
        return caught.value.code, *capsys.readouterr()

    return start


def failing(error):
    def body(arguments):
        print("begun")
        raise error

    return body


def test_a_command_that_succeeds_exits_with_zero(start):
    assert start(lambda arguments: print(*arguments), "a", "b") == (0, "a b\n", "")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("mend this"), 2, "error: mend this\n"),
        (RunFailed("it had to stop"), 1, "error: it had to stop\n"),
        (KeyboardInterrupt(), 130, "\ninterrupted\n"),
    ],
)
def test_an_error_ends_it_with_its_message_and_code(error, code, message, start):
    assert start(failing(error)) == (code, "begun\n", message)


def test_a_fault_of_the_program_is_raised():
    with pytest.raises(ZeroDivisionError):
        launch_host("", flags.FlagValues(), failing(ZeroDivisionError()), [])


def test_help_is_shown_and_nothing_run(start):
    code, out, _ = start(failing(UserError("run")), "--help")
    assert code == 0
    assert out.startswith("Does things.")
    assert "--name" in out


def test_a_reader_that_ends_ends_the_command_silently():
    code = (
        "from absl import flags\nfrom distill.command.host import launch_host\n"
        "launch_host('', flags.FlagValues(), lambda _: [print('x' * 100) for _ in range(10**5)])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdout=-1, stderr=-1, text=True
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 128 + signal.SIGPIPE
