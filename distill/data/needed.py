"""How much memory loading takes on this machine, estimated before any of it begins.

What is counted is what follows from a config: batches, views on their way to one, processes, and
the bound of a cache in memory. Decoded images before they are cut come on top, one for each thread.
"""

import math
from collections.abc import Mapping

from distill.data.batch_spec import Shaped
from distill.data.config import DataConfig
from distill.data.loader import AHEAD, PREFETCH, WORKER_BUFFER, chunk_of
from distill.data.sources import Source
from distill.data.workers import chosen_threads, chosen_workers
from distill.errors import UserError
from distill.machine import free_memory
from distill.paths import IN_MEMORY

_GIB = 2**30
# What a process has for itself once it has decoded an image, measured on Linux: 95 MiB.
_PROCESS = 96 * 2**20


def host_bytes(
    source: Source, config: DataConfig, spec: Mapping[str, Shaped], rows: int
) -> dict[str, int]:
    """Bytes of this machine's memory by the key that decides how many.

    Args:
      source: the training images.
      config: how they are read.
      spec: what a batch holds of each example, of `batch_spec`.
      rows: of a batch, how many are read here.
    """
    example = sum(math.prod(one.shape) * one.dtype.itemsize for one in spec.values())
    chunk = example * chunk_of(rows, source)
    threads = chosen_threads(config.threads, source)
    workers = chosen_workers(config.workers, len(source))
    # Those that are ready, and one that chunks are being joined to.
    found = {
        "config.train.batch_size": (AHEAD + 2) * rows * example,
        "config.data.threads": max(workers, 1) * (PREFETCH + 1) * threads * chunk,
        "config.data.workers": workers * (_PROCESS + WORKER_BUFFER * chunk),
    }
    if config.cache == IN_MEMORY and config.cache_gib is not None:
        found["config.data.cache_gib"] = int(config.cache_gib * _GIB)
    return found


def check_host(needed: Mapping[str, int], held: int = 0) -> None:
    """Compares what loading takes with what is free on this machine.

    Args:
      needed: of `host_bytes`.
      held: what else of this memory a run is going to take.

    Raises:
      UserError: if it is more than is free.
    """
    free = free_memory()
    if (total := sum(needed.values()) + held) <= free:
        return
    largest = sorted(needed, key=needed.__getitem__, reverse=True)
    parts = [f"{needed[key] / _GIB:,.1f} GiB by {key}" for key in largest if needed[key]]
    if held:
        parts.append(f"{held / _GIB:,.1f} GiB of parameters and optimizer")
    raise UserError(
        f"the run would take about {total / _GIB:,.1f} GiB of memory, and this machine has "
        f"{free / _GIB:,.1f} GiB free: {', '.join(parts)}. Give {_smaller(largest[0], needed)}"
        f"{', or a smaller model' if held else ''}"
    )


def _smaller(key: str, needed: Mapping[str, int]) -> str:
    others = [one for one, size in needed.items() if one != key and size > needed[key] // 4]
    return " and ".join(f"a smaller --{one}" for one in (key, *others))
