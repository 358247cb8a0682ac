"""A fingerprint changes with any bit of the parameters, and with nothing else."""

import jax.numpy as jnp
import numpy as np
import pytest

from distill.nn.fingerprint import fingerprint


def params():
    rng = np.random.default_rng(0)
    return {
        "a": {"kernel": jnp.asarray(rng.standard_normal((3, 4)), jnp.float32)},
        "b": jnp.asarray(rng.standard_normal(5), jnp.bfloat16),
    }


def test_equal_parameters_have_one_fingerprint():
    copied = {"b": params()["b"], "a": {"kernel": np.asarray(params()["a"]["kernel"])}}
    assert fingerprint(params()) == fingerprint(copied)
    assert len(fingerprint(params())) == 16


def flip_a_bit(p):
    bits = np.array(p["a"]["kernel"]).view(np.uint32)
    bits[2, 1] ^= 1
    p["a"]["kernel"] = jnp.asarray(bits.view(np.float32))


def swap_values(p):
    values = np.array(p["a"]["kernel"])
    values[0, 0], values[2, 3] = values[2, 3], values[0, 0]
    p["a"]["kernel"] = jnp.asarray(values)


def rename(p):
    p["c"] = p.pop("b")


def reshape(p):
    p["a"]["kernel"] = p["a"]["kernel"].reshape(4, 3)


def cast(p):
    p["b"] = p["b"].astype(jnp.float32)


@pytest.mark.parametrize("change", [flip_a_bit, swap_values, rename, reshape, cast])
def test_every_change_shows(change):
    changed = params()
    change(changed)
    assert fingerprint(changed) != fingerprint(params())


def test_what_else_makes_the_model_counts():
    assert fingerprint(params(), {"mean": 0.5}) != fingerprint(params(), {"mean": 0.4})
