"""What processes tell each other through JAX's coordinator."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import free_port
from support import REPOSITORY

SCRIPT = Path(__file__).with_name("two_processes.py")


def both(case: str, directory: Path) -> tuple[list[int], list[str]]:
    for process in range(2):
        (directory / str(process)).mkdir()
    address = f"127.0.0.1:{free_port()}"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"}
    started = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), case, address, str(process), str(directory)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process in range(2)
    ]
    try:
        told = [one.communicate(timeout=120)[0] for one in started]
    finally:
        for one in started:
            one.kill()
    return [one.returncode for one in started], told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "code", "messages"),
    [
        ("other directory", 2, ("what process 0 writes there is not seen",) * 2),
        ("process 0 fails", 1, ("its data is damaged", "ended, because process 0 (on")),
        ("process 1 fails", 1, ("ended, because process 1 (on", "its data is damaged")),
    ],
)
def test_processes_end_alike_with_a_message_and_no_traceback(case, code, messages, tmp_path):
    codes, told = both(case, tmp_path)
    assert codes == [code, code], told
    for process, message in enumerate(messages):
        assert message in told[process]
        assert "Traceback" not in told[process] and "failure stack trace" not in told[process]
        assert f"process {process} of 2: error: " in told[process]
        differs = "data.source: digits 0 on process 0, digits 1 on process 1" in told[process]
        assert differs == (case == "other directory")
    assert not list(tmp_path.rglob(".together-*"))
