"""The benchmark of distillation's parts, on models so small that only its bookkeeping matters."""

import importlib.util
import json
import sys

import numpy as np
import pytest
from support import REPOSITORY

pytestmark = pytest.mark.benchmark


@pytest.fixture(scope="module")
def benchmark():
    file = REPOSITORY / "benchmarks" / "distillation_step.py"
    spec = importlib.util.spec_from_file_location("distillation_step", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tiny = dict(width=8, depth=1, mlp_dim=8, heads=1)
    module.TEACHER = module.LARGE_TEACHER = tiny
    module.STUDENT = tiny | dict(head="gap")
    module.ROUND_SECONDS = 1e-3
    return module


def test_figures_are_medians_and_their_ratios(benchmark, tmp_path, monkeypatch, capsys):
    file = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", ["distillation_step", "--rounds=1", f"--json={file}"])
    benchmark.main()
    found = json.loads(file.read_text())
    ms, ratios = found["ms"], found["ratios"]
    assert len(ms) == 8 and all(value > 0 for value in ms.values())
    parts = ms["teacher's forward pass"] + ms["student's step on labels"]
    assert np.isclose(ratios["live / (teacher + student)"], ms["function matching"] / parts)
    told = capsys.readouterr().out
    assert all(name in told for name in (*ms, *ratios))


def test_a_step_of_stored_targets_is_that_of_the_live_teacher(benchmark):
    """So that what is compared differs in cost alone, but for the targets' rounding."""
    teacher = benchmark.vit_22b.configure("22B/2", **benchmark.COMMON | benchmark.TEACHER)
    bench = benchmark.Bench(benchmark.vit_22b.build(teacher))
    live, stored = (bench.step(0, targets=targets)()["0"] for targets in ("live", "stored"))
    assert np.isclose(live["loss"], stored["loss"], rtol=1e-2, atol=1e-6)
    labels = bench.step(0, targets="labels")()["0"]
    assert np.isclose(labels["loss"], np.log(10), rtol=0.2)
