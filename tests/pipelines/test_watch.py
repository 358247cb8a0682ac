"""`distill watch` as a user types it."""

import os
import re
import signal
import subprocess
import sys
import urllib.request

import pytest
from support import REPOSITORY, run_command


def test_what_cannot_be_watched_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    for arguments, message in {
        (): "give a workdir",
        ("s3://bucket/runs/student",): "distill inspect s3://bucket/runs/student",
        (str(tmp_path / "file"),): "is a file",
        (str(tmp_path), "--port=70000"): "port",
        (str(tmp_path), "odd"): "unexpected argument",
    }.items():
        done = run_command("watch", *arguments)
        assert done.returncode == 2 and message in done.stderr, done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_it_serves_until_it_is_interrupted(teacher_workdir):
    before = {path: path.stat().st_mtime_ns for path in teacher_workdir.rglob("*")}
    code = (
        "import runpy, signal, sys\n"
        # A shell may have told what it starts to ignore it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.argv[0] = 'distill'\n"
        "runpy.run_module('pipelines.cli', run_name='__main__')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "watch", teacher_workdir, "--port=0"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    (url,) = re.findall(r"http://127\.0\.0\.1:\d+/", line)
    with urllib.request.urlopen(url, timeout=30) as answer:
        page = answer.read().decode()
    assert "finished" in page and "step 10/10 (100%)" in page
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert (out.strip(), err) == ("", "")
    assert {path: path.stat().st_mtime_ns for path in teacher_workdir.rglob("*")} == before
