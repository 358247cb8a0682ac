"""Compiling a step with what suits where it runs."""

import os

import jax
from jax.sharding import Mesh

from distill.parallel.chips import chip_of

Options = dict[str, str | bool]

# XLA for CPUs would start whatever it can as early as it can, so that independent operations run
# beside each other, and keep it all. Products fill a CPU's cores one after another.
_ONE_CPU: Options = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
# Of the vector memory beside the matrix units, 64 to 128 MiB, XLA leaves a fusion 16 or 32: too
# little for tiles that are large enough to keep a product busy. Most of what more can gain is there
# at 48, from where on compiling takes many times as long.
_MORE_VECTOR_MEMORY: Options = {"xla_tpu_scoped_vmem_limit_kib": str(48 * 1024)}
# Both are what Google's own training of large models sets; docs/scale.md has what they gain.
_TPUS: dict[str, Options] = {
    # Weights are gathered while products run. XLA for v4 waits for them by itself; for v5p and v6e
    # it does so whatever is asked, and for v5e it does not.
    "TPU v4": {"xla_enable_async_all_gather": True},
    "TPU v5e": _MORE_VECTOR_MEMORY,
    "TPU v5p": _MORE_VECTOR_MEMORY,
    "TPU v6e": _MORE_VECTOR_MEMORY,
    "TPU v7x": _MORE_VECTOR_MEMORY,
}


def compiled(lowered: jax.stages.Lowered, mesh: Mesh) -> jax.stages.Compiled:
    """The program for the devices of `mesh`.

    On one CPU its operations are in an order that needs little memory; what they compute is the
    same to the bit.
    """
    options = compiler_options(mesh)
    try:
        return lowered.compile(compiler_options=options or None)
    except jax.errors.JaxRuntimeError as error:
        # Names of options are XLA's own, and may go as they came.
        if not options or "No such compile option" not in str(error):
            raise
        return lowered.compile()


def compiler_options(mesh: Mesh) -> Options:
    """In place of XLA's defaults, for a step on the devices of `mesh`.

    What `XLA_FLAGS` or `LIBTPU_INIT_ARGS` names is left to them.
    """
    flags = " ".join(os.environ.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS"))
    named = {flag.partition("=")[0].lstrip("-") for flag in flags.split()}
    return {name: value for name, value in _suited(mesh).items() if name not in named}


def _suited(mesh: Mesh) -> Options:
    device = mesh.devices.flat[0]
    if device.platform == "cpu":
        return _ONE_CPU if mesh.size == 1 else {}
    chip = chip_of(device.device_kind)
    return {} if chip is None else _TPUS.get(chip.name, {})
