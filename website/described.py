"""What every command takes, as `distill COMMAND --help` knows it: written as JSON.

  python website/described.py FILE

A process of its own, as a command that is asked for help ends it.
"""

import contextlib
import io
import json
import runpy
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from absl import flags

from distill.command import host, launch
from distill.config.help import sections
from pipelines.cli import COMMANDS, MODULES


def described(command: str) -> dict[str, Any]:
    """A command: its docstring, its flags, and the sections of its config.

    Raises:
      RuntimeError: if it ends without having been asked what it takes.
    """
    asked: list[dict[str, Any]] = []

    def answer(
        doc: str, values: flags.FlagValues, schema: type | None, arguments: Sequence[str] = ()
    ) -> str:
        asked.append(
            {
                "command": command,
                "doc": doc.strip(),
                "flags": [
                    (f"--{name}", values[name].help, values[name].default) for name in values
                ],
                "schema": schema.__name__ if schema else None,
                "sections": [
                    (one.path, one.doc, [key._asdict() for key in one.keys])
                    for one in (sections(schema) if schema else ())
                ],
            }
        )
        return ""

    arguments = [f"distill {command}", "--help"]
    with (
        mock.patch.object(launch, "help_text", answer),
        mock.patch.object(host, "help_text", answer),
        mock.patch.object(sys, "argv", arguments),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.suppress(SystemExit),
        warnings.catch_warnings(),
    ):
        # Commands are made of others, which are modules by then.
        warnings.filterwarnings("ignore", ".*found in sys.modules", RuntimeWarning)
        runpy.run_module(f"pipelines.{MODULES.get(command, command)}", run_name="__main__")
    if len(asked) != 1:
        raise RuntimeError(f"distill {command} --help said nothing")
    return asked[0]


if __name__ == "__main__":
    everything = [described(command) for command in COMMANDS]
    Path(sys.argv[1]).write_text(json.dumps(everything), encoding="utf-8")
