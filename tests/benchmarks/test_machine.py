"""What machine figures come from."""

import json

import jax

from benchmarks import machine


def test_the_driver_is_what_nvidias_tool_says(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.nvidia_driver() is None
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 570.124.06; echo 570.124.06\n")
    tool.chmod(0o755)
    assert machine.nvidia_driver() == "570.124.06"
    tool.write_text("#!/bin/sh\necho 'no driver found'; exit 9\n")
    assert machine.nvidia_driver() is None


def test_it_prints_what_it_writes(tmp_path, capsys):
    machine.main([f"--json={tmp_path / 'machine.json'}"])
    found = json.loads((tmp_path / "machine.json").read_text())
    assert (found["platform"], found["device_count"]) == ("cpu", len(jax.devices()))
    assert found["versions"]["jax"] == jax.__version__
    printed = capsys.readouterr().out
    assert f"jax {jax.__version__}" in printed and "driver" not in printed
    rows = machine.environment_rows(found | {"driver": "570.1", "runtime": "cuda 13"})
    assert rows["runtime"] == "cuda 13, driver 570.1"
