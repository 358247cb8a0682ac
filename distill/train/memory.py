"""Whether a step fits into memory, and what to change where it does not."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping

import jax
from jax.sharding import Mesh

from distill.data.needed import check_host
from distill.errors import RunFailed, UserError
from distill.machine import free_memory
from distill.parallel import batch_devices, distributed
from distill.train.config import TrainConfig
from distill.train.state import TrainState
from distill.train.step import CompiledStep, held_bytes
from distill.unwritten import is_of_storage

_GIB, _MIB = 2**30, 2**20
# Of what is free, that a suggestion may fill: not everything shrinks with the batch.
_SHARE = 0.85
# Of each block its input is kept, and its largest intermediate results while it is computed again.
_REMAT_SAVES = 4.0


class OutOfMemory(RunFailed):
    """A program needs more memory than there is."""


@dataclasses.dataclass(frozen=True)
class Knobs:
    """What of a run decides how much memory its step takes."""

    train: TrainConfig
    devices: int
    """That share a batch."""
    remat: Mapping[str, str]
    """Of each network that is trained, by the key of the config that sets it."""
    in_parts: bool = True
    """Whether batches may be cut into microbatches."""

    @classmethod
    def of(
        cls, train: TrainConfig, mesh: Mesh, remat: Mapping[str, str], *, in_parts: bool = True
    ) -> "Knobs":
        """Those of a run on `mesh`."""
        return cls(train, batch_devices(mesh), remat, in_parts)

    def advice(self, *, too_large: float = 2.0, prepared: bool = False) -> str:
        """What to type.

        Args:
          too_large: how many times what is free the step takes.
          prepared: whether what is prepared for the whole batch, such as teachers' outputs, is too
            large by itself.
        """
        ways = []
        parts = self._microbatches(too_large)
        if parts and self.in_parts and not prepared:
            ways.append(f"--config.train.microbatches={parts}, for the same update in parts")
        remat = [f"--config.{key}=full" for key, now in self.remat.items() if now != "full"]
        if remat and not prepared and too_large <= _REMAT_SAVES:
            ways.append(f"{' '.join(remat)}, which computes activations twice")
        if batch := self._batch_size(too_large):
            ways.append(f"in a new --workdir a smaller batch, --config.train.batch_size={batch}")
        if not ways:
            return "Use a smaller model, or more devices"
        return "Use " + "; or ".join(ways)

    def _microbatches(self, too_large: float) -> int | None:
        """The fewest that fit, as far as can be told, or the most that there can be."""
        now, share = self.train.microbatches, self.train.batch_size // self.devices
        more = [n for n in range(now + 1, share + 1) if share % n == 0]
        return next((n for n in more if n >= now * too_large), more[-1] if more else None)

    def _batch_size(self, too_large: float) -> int | None:
        """The largest that fits, as far as can be told: the least possible times a power of two."""
        least = self.devices * self.train.microbatches
        times = int(self.train.batch_size / too_large) // least
        found = least << max(times.bit_length() - 1, 0)
        return found if found < self.train.batch_size else None


def check_fits(step: CompiledStep, mesh: Mesh, knobs: Knobs) -> None:
    """Compares what a step takes with what its devices have; all processes must call it.

    Raises:
      OutOfMemory: on every process, if it is too much for a device of one of them.
    """
    device = mesh.local_devices[0]
    # On CPUs, a process's devices share the machine's memory.
    sharing = len(mesh.local_devices) if device.platform == "cpu" else 1
    needed = step.extra_bytes * sharing
    free = free_bytes(device)
    short = -1 if free is None else math.ceil((needed - free) / _MIB)
    short = distributed.largest(max(short, -1)) * _MIB
    if short <= 0:
        return
    free = max(needed - short, 0)
    too_large = needed / max(free * _SHARE, 1)
    prepared = step.prepare_bytes * sharing > free
    held = step.argument_bytes * sharing
    raise OutOfMemory(
        f"a step does not fit into memory: beside the {_gib(held)} of its parameters, optimizer "
        f"and batch it takes {_gib(needed)}, and {_place(device)} has {_gib(free)} free, "
        f"{_gib(short)} too little. {knobs.advice(too_large=too_large, prepared=prepared)}"
    )


def check_held(states: Iterable[TrainState], mesh: Mesh, host: Mapping[str, int]) -> None:
    """Compares what a run holds from step to step with what there is, before it is allocated.

    What a step takes beside it, `check_fits` compares once the step is compiled.

    Args:
      states: of all that is trained, as `abstract_state` has them.
      mesh: that they are placed on.
      host: what loading takes of this machine, of `distill.data.needed.host_bytes`.

    Raises:
      UserError: if it is too much for a device or this machine.
    """
    device = mesh.local_devices[0]
    held = sum(map(held_bytes, states))
    if device.platform == "cpu":
        check_host(host, held * len(mesh.local_devices))
        return
    check_host(host)
    free = free_bytes(device)
    if free is not None and held > free:
        raise UserError(
            f"parameters and optimizer take {_gib(held)} of each device, and {_place(device)} has "
            f"{_gib(free)} free. Use a smaller model; config.mesh.fsdp, which cuts them over more "
            "devices; or config.optimizer.name=adafactor, whose state is the smallest"
        )


@contextlib.contextmanager
def explained(advice: Callable[[], str]) -> Iterator[None]:
    """Turns JAX's error where memory runs out into one that says what to do.

    Args:
      advice: says it.

    Raises:
      OutOfMemory: if memory runs out.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise
        first = str(error).partition("\n")[0]
        raise OutOfMemory(f"memory ran out ({first}). {advice()}") from error


def is_out_of_memory(error: jax.errors.JaxRuntimeError) -> bool:
    """Whether JAX's error says that memory ran out, of a device or the machine."""
    return "RESOURCE_EXHAUSTED" in str(error) and not is_of_storage(str(error))


def free_bytes(device: jax.Device) -> int | None:
    """Memory of a device that nothing has taken; None where it does not say."""
    if device.platform == "cpu":
        return free_memory()
    stats = device.memory_stats() or {}
    if "bytes_limit" not in stats:
        return None
    return stats["bytes_limit"] - stats.get("bytes_in_use", 0)


def _place(device: jax.Device) -> str:
    return "this machine" if device.platform == "cpu" else f"a {device.device_kind}"


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"
