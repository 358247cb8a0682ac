"""Memory that a command frees is there again for what it does next."""

import os

import pytest
from support import run_python

pytestmark = pytest.mark.skipif(
    "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""), reason="another C library"
)

# The thread that computes is XLA's own.
COMPUTES = """
import resource, runpy
from unittest import mock
from absl import flags
from distill.command import entry

def command(name, run_name):
    from distill.command.launch import launch
    launch("", flags.FlagValues(), body, [])

def body(arguments):
    import jax, jax.numpy as jnp
    def step(x):
        y = jnp.sin(x)[:, None] * jnp.ones((1, 4096))
        return jnp.cumsum(y, axis=1)[:, ::2].sum(axis=1)
    step = jax.jit(step).lower(jnp.ones(4096)).compile()
    # The heap grows while what is left in between splits what was freed.
    found = []
    for _ in range(40):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        jax.block_until_ready(step(jnp.ones(4096)))
        found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    temporary = step.memory_analysis().temp_size_in_bytes
    print(temporary // 4096, sorted(found[20:])[10])

with mock.patch.object(runpy, "run_module", command):
    entry.main()
"""


def faults(**environment):
    """Pages of a step's temporaries, and how many pages a later step had to ask for, the median."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu"} | environment
    done = run_python("-c", COMPUTES, env=environment)
    assert done.returncode == 0, done.stderr
    return map(int, done.stdout.split())


@pytest.mark.slow
def test_a_step_finds_the_memory_of_the_one_before():
    pages, asked = faults(DISTILL_KEEP_MEMORY="1")
    assert pages > 4096
    assert asked < pages / 20


@pytest.mark.slow
def test_it_can_be_left_to_the_c_library():
    pages, asked = faults(DISTILL_KEEP_MEMORY="0")
    assert asked > pages / 2


@pytest.mark.parametrize(
    "environment, kept",
    [
        ({"JAX_PLATFORMS": "cpu"}, True),
        ({"JAX_PLATFORMS": "cuda"}, False),
        ({"JAX_PLATFORMS": "cuda,cpu"}, False),
        ({"JAX_PLATFORMS": "cpu", "DISTILL_KEEP_MEMORY": "0"}, False),
        ({"JAX_PLATFORMS": "cpu", "DISTILL_KEEP_MEMORY": "False"}, False),
    ],
)
def test_memory_is_kept_where_cpus_alone_compute(environment, kept):
    code = "from distill.command.allocator import keep_freed_memory; print(keep_freed_memory())"
    done = run_python("-c", code, env=os.environ | {"DISTILL_KEEP_MEMORY": "1"} | environment)
    assert done.stdout.strip() == str(kept), done.stderr
