"""Compiling a step with what suits where it runs."""

import jax
from jax.sharding import Mesh

# XLA for CPUs would start whatever it can as early as it can, so that independent operations run
# beside each other, and keep it all. Products fill a CPU's cores one after another.
_ONE_CPU: dict[str, str | bool] = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}


def compiled(lowered: jax.stages.Lowered, mesh: Mesh) -> jax.stages.Compiled:
    """The program for the devices of `mesh`.

    On one CPU its operations are in an order that needs little memory; what they compute is the
    same to the bit.
    """
    options = _options(mesh)
    try:
        return lowered.compile(compiler_options=options)
    except jax.errors.JaxRuntimeError as error:
        # Names of options are XLA's own, and may go as they came.
        if options is None or "No such compile option" not in str(error):
            raise
        return lowered.compile()


def _options(mesh: Mesh) -> dict[str, str | bool] | None:
    platform = mesh.devices.flat[0].platform
    return _ONE_CPU if platform == "cpu" and mesh.size == 1 else None
