"""What is compiled with what."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from distill.parallel import compiling


def mesh_of(kind):
    """All of a mesh that is looked at, of two devices."""
    devices = [types.SimpleNamespace(platform="tpu", device_kind=kind)] * 2
    return types.SimpleNamespace(devices=np.asarray(devices), size=2)


@pytest.fixture
def one_cpu():
    return Mesh(np.asarray(jax.devices()[:1]), ("data",))


def lowered():
    return jax.jit(jnp.sin).lower(jax.ShapeDtypeStruct((2,), jnp.float32))


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        ("TPU v4", "xla_enable_async_all_gather"),
        ("TPU v5 lite", "xla_tpu_scoped_vmem_limit_kib"),
        ("TPU v5", "xla_tpu_scoped_vmem_limit_kib"),
        ("TPU v6 lite", "xla_tpu_scoped_vmem_limit_kib"),
        ("TPU7x", "xla_tpu_scoped_vmem_limit_kib"),
    ],
)
def test_each_tpu_has_its_option_unless_the_environment_names_it(monkeypatch, kind, option):
    monkeypatch.delenv("LIBTPU_INIT_ARGS", raising=False)
    assert list(compiling.compiler_options(mesh_of(kind))) == [option]
    monkeypatch.setenv("LIBTPU_INIT_ARGS", f"--xla_tpu_other=1 --{option}=8")
    assert compiling.compiler_options(mesh_of(kind)) == {}


@pytest.mark.parametrize(
    "flags, named",
    [
        ("-xla_enable_async_all_gather=false", True),
        ("--xla_enable_async_all_gather", True),
        ('--xla_tpu_other=1 --xla_enable_async_all_gather="false"', True),
        # libtpu passes over what has no dash.
        ("xla_enable_async_all_gather=false", False),
        ("--xla_enable_async_all_gather_2d=false", False),
        ("", False),
        ("'", False),
    ],
)
def test_options_are_named_as_libtpu_reads_them(monkeypatch, flags, named):
    monkeypatch.setenv("LIBTPU_INIT_ARGS", flags)
    assert (compiling.compiler_options(mesh_of("TPU v4")) == {}) == named


def test_flags_of_another_platform_name_nothing(monkeypatch, one_cpu):
    monkeypatch.setenv("LIBTPU_INIT_ARGS", "--xla_cpu_scheduler_type=X")
    monkeypatch.setenv("XLA_FLAGS", "--xla_enable_async_all_gather=false")
    assert list(compiling.compiler_options(one_cpu)) == ["xla_cpu_scheduler_type"]
    assert list(compiling.compiler_options(mesh_of("TPU v4"))) == ["xla_enable_async_all_gather"]


def test_xla_reads_flags_from_a_file(monkeypatch, one_cpu, tmp_path):
    file = tmp_path / "flags"
    file.write_text("--xla_cpu_scheduler_type=CPU_SCHEDULER_TYPE_CONCURRENCY_OPTIMIZED\n")
    monkeypatch.setenv("XLA_FLAGS", str(file))
    assert compiling.compiler_options(one_cpu) == {}


def test_a_device_that_is_not_known_has_xlas_defaults():
    assert compiling.compiler_options(mesh_of("TPU v99")) == {}


def test_what_several_cpus_compute_is_in_one_order_wherever_it_is_compiled():
    devices = [types.SimpleNamespace(platform="cpu")] * 2
    several = types.SimpleNamespace(devices=np.asarray(devices), size=2)
    assert compiling.ordered_options(several) == compiling.compiler_options(several) != {}


def test_other_devices_keep_an_order_by_themselves(one_cpu):
    assert compiling.ordered_options(None) is None
    assert compiling.ordered_options(one_cpu) is None
    assert compiling.ordered_options(mesh_of("TPU v4")) is None


def test_an_option_that_xla_does_not_have_is_left_out(monkeypatch, one_cpu, capsys):
    monkeypatch.setattr(compiling, "_CPUS", {"xla_of_another_day": True})
    with pytest.raises(jax.errors.JaxRuntimeError, match="No such compile option"):
        lowered().compile(compiler_options=compiling.compiler_options(one_cpu))
    program = compiling.compiled(lowered(), one_cpu)
    np.testing.assert_allclose(program(jnp.ones(2)), np.sin(np.ones(2)), rtol=1e-6)
    assert "xla_of_another_day" in capsys.readouterr().err


def test_another_failure_is_not_taken_for_one(monkeypatch, one_cpu):
    monkeypatch.setattr(compiling, "_CPUS", {"xla_cpu_scheduler_type": "NONSENSE"})
    with pytest.raises(jax.errors.JaxRuntimeError):
        compiling.compiled(lowered(), one_cpu)
