"""From a command line to what is computed on the host alone: it starts without JAX."""

import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import flags

from distill.command.entry import check_packages, imported
from distill.command.help import help_text, is_asked
from distill.command.streams import keep_streams
from distill.errors import UserError
from distill.terminal import accept_any_text
from distill.unwritten import explained


def launch_host(
    doc: str | None,
    values: flags.FlagValues,
    body: Callable[[list[str]], None],
    argv: Sequence[str] | None = None,
) -> NoReturn:
    """Runs `body` on the arguments and exits: 0, or the error's exit code with its message.

    Args:
      doc: the command's docstring, for --help.
      values: its flags.
      body: takes the arguments; it neither computes on a device nor meets other processes, for
        which there is `distill.command.launch`.
      argv: arguments; None takes the command line's.
    """
    imported()
    arguments = command_line() if argv is None else list(argv)
    keep_streams(output=False)
    accept_any_text()
    code = 0
    try:
        check_packages()
        if is_asked(arguments):
            print(help_text(doc or "", values, None, arguments))
        else:
            with explained(lambda: "Run the same command again"):
                body(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        if not nobody_reads():
            raise
        code = 128 + signal.SIGPIPE
    except UserError as error:
        sys.stdout.flush()
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        code = 128 + signal.SIGINT
    sys.exit(code)


def nobody_reads() -> bool:
    """Whether what standard output goes to has ended, as `head` does; the rest of it is dropped."""
    output = sys.stdout.fileno()
    reader = select.poll()
    # Of a pipe without a reader an error is told, whatever is asked for.
    reader.register(output, 0)
    if not reader.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


def command_line() -> list[str]:
    """The command line's arguments, which are UTF-8, whatever the locale says."""
    return [os.fsencode(one).decode("utf-8", "surrogateescape") for one in sys.argv[1:]]
