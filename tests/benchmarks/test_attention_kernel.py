"""A kernel is told from one that computes something else."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import attention_kernel

SHAPE = (8, 16)


def test_the_transcription_is_attention_and_its_gradient():
    q, k, v, g = np.random.default_rng(0).standard_normal((4, 2, 5, 3, 8))

    def attend(q, k, v):
        weights = jax.nn.softmax(jnp.einsum("bthk,bshk->bhts", q, k) / np.sqrt(8), axis=-1)
        return jnp.einsum("bhts,bshk->bthk", weights, v)

    output, pull = jax.vjp(attend, *(jnp.asarray(x, jnp.float32) for x in (q, k, v)))
    expected = [output, *pull(jnp.asarray(g, jnp.float32))]
    for actual, wanted in zip(attention_kernel.reference(q, k, v, g), expected, strict=True):
        assert actual.dtype == np.float64
        np.testing.assert_allclose(actual, wanted, atol=2e-5)


def test_the_plain_kernel_is_itself():
    found = attention_kernel.compare(*SHAPE, "auto")
    assert found["holds"] and found["kernel"] == "plain"
    assert found["errors"] == found["plain_errors"]
    # Rounded to bfloat16, and not exact.
    assert all(1e-4 < error < 1e-2 for error in found["errors"].values())


# What a faulty kernel makes of the output.
FAULTS = {
    "scaled": lambda o, q, k, v: 1.03 * o,
    "one row": lambda o, q, k, v: o.at[0, 0].set(0),
    "not a number": lambda o, q, k, v: o.at[0, 0, 0, 0].set(jnp.nan),
    "the gradient of v alone": lambda o, q, k, v: o + 0.1 * (v - jax.lax.stop_gradient(v)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_kernel_does_not_hold(fault, monkeypatch, tmp_path, capsys):
    attend = attention_kernel.attend

    def faulty(q, k, v, *, kernel):
        output = attend(q, k, v, kernel="plain")
        return output if kernel == "plain" else FAULTS[fault](output, q, k, v).astype(q.dtype)

    monkeypatch.setattr(attention_kernel, "attend", faulty)
    monkeypatch.setattr(attention_kernel, "SHAPES", (SHAPE,))
    file = tmp_path / "kernel.json"
    with pytest.raises(SystemExit) as stopped:
        attention_kernel.main(["--kernel=auto", f"--json={file}"])
    assert stopped.value.code == 1
    assert json.loads(file.read_text())["holds"] is False
    assert "DIFFERENT" in capsys.readouterr().out


def test_a_kernel_that_cannot_run_here_is_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        attention_kernel.main([])
    assert stopped.value.code == 2
    assert "the platform is 'cpu', expected an NVIDIA GPU" in capsys.readouterr().err
