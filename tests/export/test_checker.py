"""The script that runs an export in its own runtime."""

import os
import subprocess
import sys
import time
from pathlib import Path

from distill.export.verify import CHECKER


def test_the_checker_is_a_plain_script():
    assert "import distill" not in CHECKER.read_text()
    assert "from distill" not in CHECKER.read_text()


def test_the_checker_ends_with_the_export_that_was_killed(tmp_path):
    # Nobody ever writes to it: the script would wait for ever.
    os.mkfifo(tmp_path / "model")
    started = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-I', *sys.argv[1:]])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)"
    )
    script = [str(CHECKER), "stablehlo", str(tmp_path / "model"), str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, "-c", started, *script], stdout=subprocess.PIPE, encoding="utf-8"
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        # Once somebody reads, it can be opened.
        held = _within(60, lambda: _opened(tmp_path / "model"))
        assert held is not None
        assert _lives(child)
        parent.kill()
    assert _within(20, lambda: not _lives(child))
    os.close(held)


def _within(seconds, done):
    ends = time.monotonic() + seconds
    while (found := done()) in (None, False) and time.monotonic() < ends:
        time.sleep(0.1)
    return found


def _opened(file):
    try:
        return os.open(file, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


def _lives(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
