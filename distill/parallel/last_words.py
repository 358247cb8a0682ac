"""Speaks for a process of a run that no longer can.

JAX ends a process that has lost another one from C++, where no Python runs any more, and a killed
process says nothing at all. So each process of a run starts this script beside itself and holds
the other end of its standard input: a line `done` there means that it ended knowingly; the end of
the input without it, that somebody else has to say what to do now.

  python last_words.py NAME [WORKDIR] < pipe

It imports nothing of this package, so that it costs neither time nor memory.
"""

import contextlib
import os
import sys


def message(name: str, workdir: str | None) -> str:
    """What to tell the user after `name` has ended without a word."""
    text = (
        f"{name}: error: ended early: another process of the run was lost (see the lines above and "
        "what the other processes printed), or this one was killed or ran out of memory."
    )
    if workdir is None:
        return f"{text} Run the same command again on all processes"
    step = newest_checkpoint(workdir)
    where = "begin anew, as nothing was saved yet" if step is None else f"resume from step {step}"
    return (
        f"{text} What was saved is complete: run the same command again on all processes to {where}"
    )


def newest_checkpoint(workdir: str) -> int | None:
    """The step of the newest complete checkpoint; incomplete ones have other names."""
    return newest_in(os.path.join(workdir, "checkpoints"))


def newest_in(checkpoints: str) -> int | None:
    """The same, of a directory of checkpoints."""
    names = []
    with contextlib.suppress(OSError):
        names = os.listdir(checkpoints)
    return max((int(name) for name in names if name.isdigit()), default=None)


if __name__ == "__main__":
    if sys.stdin.read().strip() != "done":
        print(message(sys.argv[1], *(sys.argv[2:] or [None])), file=sys.stderr, flush=True)
