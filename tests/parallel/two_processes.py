"""One of two processes: python two_processes.py CASE ADDRESS PROCESS DIRECTORY."""

import sys
from pathlib import Path
from typing import NoReturn

from distill.command.launch import launch
from distill.errors import RunFailed, UserError
from distill.parallel import distributed, together

CASE, ADDRESS, PROCESS, DIRECTORY = sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])


def body(arguments: list[str]) -> None:
    """Meets the other one, and does what the case says."""
    del arguments
    distributed.join(coordinator=ADDRESS, processes=2, process=PROCESS, start_timeout=60)
    distributed.check_same("the config", {"seed": 1, "data": {"source": "digits"}})
    distributed.check_shared(DIRECTORY, "--workdir")
    if CASE == "other directory":
        try:
            distributed.check_same("the config", {"data": {"source": f"digits {PROCESS}"}})
        except UserError as error:
            # It ends both, if it is not caught.
            print(error, flush=True)
        distributed.check_shared(DIRECTORY / str(PROCESS), "--workdir")
    if CASE in ("process 0 fails", "process 1 fails"):
        if CASE.startswith(f"process {PROCESS}"):
            raise RunFailed("its data is damaged")
        # As it waits for the other one's part of a sum.
        distributed.total(1)


def main() -> NoReturn:
    """Runs it as a command."""
    from absl import flags

    together._HIDDEN = 1.0
    launch("", flags.FlagValues(), body, [])


if __name__ == "__main__":
    main()
