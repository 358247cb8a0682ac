"""Compiling what runs on a mesh with what suits its devices."""

import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from distill.parallel.chips import chip_of
from distill.parallel.mesh import replicated
from distill.parallel.printed import say

Options = dict[str, str | bool]

# XLA for CPUs would start whatever it can as early as it can, so that independent operations run
# beside each other, and keep it all. Products fill a CPU's cores one after another. On several
# devices of a process more is at stake: collectives behind a loop may overtake those within it, and
# where they do so on some devices only, all wait for each other until XLA ends the process.
_CPUS: Options = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
# Of the vector memory beside the matrix units, 64 to 128 MiB, XLA leaves a fusion 16 or 32: too
# little for tiles that are large enough to keep a product busy. Most of what more can gain is there
# at 48; the more there is, the longer compiling takes.
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


def compiled(
    lowered: jax.stages.Lowered, mesh: Mesh, more: Mapping[str, str | bool] | None = None
) -> jax.stages.Compiled:
    """The program for the devices of `mesh`.

    On CPUs its operations are in an order that needs little memory; what they compute is the same
    to the bit.

    Args:
      lowered: what to compile.
      mesh: for what.
      more: options beside those of `compiler_options`.
    """
    options = compiler_options(mesh) | dict(more or {})
    try:
        return lowered.compile(compiler_options=options or None)
    except jax.errors.JaxRuntimeError as error:
        # Names of options are XLA's own, and may go as they came.
        if not options or "No such compile option" not in str(error):
            raise
        say(f"warning: compiling by XLA's defaults, as it refuses what suits this step: {error}")
        return lowered.compile()


def compiler_options(mesh: Mesh) -> Options:
    """In place of XLA's defaults, for a step on the devices of `mesh`.

    What the environment names is left to it: `LIBTPU_INIT_ARGS` on TPUs, elsewhere `XLA_FLAGS`,
    which knows no option of theirs.
    """
    on_tpu = mesh.devices.flat[0].platform == "tpu"
    named = _named(os.environ.get("LIBTPU_INIT_ARGS" if on_tpu else "XLA_FLAGS", ""))
    return {name: value for name, value in _suited(mesh).items() if name not in named}


def jit_replicated(function: Callable[..., Any], mesh: Mesh | None) -> Callable[..., Any]:
    """`jax.jit` whose results are on every device of `mesh`, so that every process can fetch them.

    Args:
      function: of arrays on `mesh`.
      mesh: None where arrays are on no mesh, as they are in what is traced alone.
    """
    everywhere = None if mesh is None else replicated(mesh)
    return jax.jit(function, out_shardings=everywhere, compiler_options=ordered_options(mesh))


def ordered_options(mesh: Mesh | None) -> Options | None:
    """`compiler_options` for a `jax.jit` of a whole network, where its devices need them.

    Those are several CPUs, whose collectives XLA does not keep in one order by itself.
    """
    if mesh is None or mesh.size == 1 or mesh.devices.flat[0].platform != "cpu":
        return None
    return compiler_options(mesh) or None


def _named(flags: str) -> set[str]:
    """The options in flags as XLA reads them, or in the file whose name stands in their place."""
    flags = flags.strip()
    if flags and not flags.startswith("-"):
        try:
            flags = Path(flags).read_text(encoding="utf-8")
        except OSError:
            # XLA itself ends the process for it; libtpu passes over what has no dash.
            return set()
    try:
        words = shlex.split(flags)
    except ValueError:
        words = flags.split()
    return {word.partition("=")[0].lstrip("-") for word in words if word.startswith("-")}


def _suited(mesh: Mesh) -> Options:
    device = mesh.devices.flat[0]
    if device.platform == "cpu":
        return _CPUS
    chip = chip_of(device.device_kind)
    return {} if chip is None else _TPUS.get(chip.name, {})
