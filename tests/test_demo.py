"""The demo, as a user runs it, against the figures the README promises."""

import os
import time

import pytest
from support import run_python

from distill.json_files import read_json


@pytest.mark.demo
def test_the_demo_reaches_its_figures(tmp_path):
    began = time.monotonic()
    # With optimisation, which other tests do without.
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    demo = ("-m", "pipelines.cli", "demo", f"--workdir={tmp_path}")
    done = run_python(*demo, timeout=1200, env=env)
    assert done.returncode == 0, done.stderr
    print(f"{done.stdout}\nthe whole demo took {time.monotonic() - began:.0f} s")

    summary = read_json(tmp_path / "summary.json")
    teacher, student, yardstick = (summary[n] for n in ("teacher", "student", "labels only"))
    assert teacher["test/accuracy"] >= 0.98
    # A student may be better than its teacher.
    assert student["test/accuracy"] >= teacher["test/accuracy"] - 0.005
    assert student["parameters"] * 5 <= teacher["parameters"]
    assert yardstick["parameters"] == student["parameters"]
    assert yardstick["steps"] == student["steps"]
    assert summary["export"]["largest_logit_difference"] <= 1e-4
    assert "labels only" in done.stdout
    assert '<figure class="chart"' in (tmp_path / "report.html").read_text()
