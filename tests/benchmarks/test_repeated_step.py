"""Two runs of a step are compared to the bit."""

import itertools
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import repeated_step
from distill.train.state import TrainState

SIZES = ("width=16", "depth=1", "mlp_dim=16", "heads=2")
COMMAND = [
    *"--teacher=B/16 --student=B/16 --batch_size=2 --image_size=16 --num_classes=3".split(),
    *(f"--{role}_{size}" for role in ("teacher", "student") for size in SIZES),
    "--steps=2",
]


def test_values_differ_by_their_bits():
    nan, zero = jnp.float32(jnp.nan), jnp.zeros(3, jnp.bfloat16)
    same = {"a": jnp.stack([nan, nan]), "b": zero, "c": jnp.int32(1)}
    assert repeated_step.differences(same, jax.tree.map(jnp.copy, same)) == {}
    other = same | {"b": zero.at[1].set(-0.0), "c": jnp.int32(2)}
    assert repeated_step.differences(same, other) == {"['b']": 1, "['c']": 1}
    # One unit in the last place.
    next_up = jnp.asarray(np.nextafter(np.float32(1), np.float32(2)))
    assert repeated_step.differences({"a": jnp.float32(1)}, {"a": next_up}) == {"['a']": 1}


def repeat(tmp_path):
    """Status and figures of the command."""
    file = tmp_path / "step.json"
    with pytest.raises(SystemExit) as stopped:
        repeated_step.main([*COMMAND, f"--json={file}"])
    return stopped.value.code, json.loads(file.read_text())


@pytest.mark.benchmark
def test_a_distillation_step_repeats_itself(tmp_path, capsys):
    status, found = repeat(tmp_path)
    assert (status, found["holds"], found["differing"]) == (0, True, {})
    # Student, moments and step.
    assert found["arrays"] > 50
    printed = capsys.readouterr().out
    assert f"the same bits in all {found['arrays']} arrays" in printed
    assert found["fingerprint"] in printed


@pytest.mark.parametrize("drift", [0.0, 1e-6])
def test_a_step_that_does_not_is_found(drift, tmp_path, monkeypatch, capsys):
    calls = itertools.count()

    def program(state, frozen, batch):
        params = {"w": state.params["w"] + batch["x"] + drift * next(calls), "b": state.params["b"]}
        return TrainState(state.step + 1, params, state.opt_state), {}

    step = types.SimpleNamespace(
        start=lambda: TrainState(jnp.int32(0), {"w": jnp.ones(3), "b": jnp.ones(2)}, {}),
        program=program,
        frozen=None,
        batches=[{"x": 1.0}],
    )
    monkeypatch.setattr(repeated_step, "compile_step", lambda *arguments: step)
    status, found = repeat(tmp_path)
    assert (status, found["holds"]) == (int(drift > 0), drift == 0)
    assert found["differing"] == ({".params['w']": 3} if drift else {})
    assert ("1 of 3 arrays differ" in capsys.readouterr().out) == (drift > 0)
