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
_MODEL = "model"
_WHAT = {
    _MODEL: "parameters and optimizer",
    "--config.train.batch_size": "batches",
    "--config.data.threads": "views that threads read ahead",
    "--config.data.workers": "worker processes",
    "--config.data.cache_gib": "the cache",
}
# Parts of what is needed that are smaller are not mentioned, or not worth to change.
_MENTIONED, _WORTH_CHANGING = 50, 4


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
    parts = {**{f"--{key}": size for key, size in needed.items()}, _MODEL: held}
    if (total := sum(parts.values())) <= free:
        return
    largest = sorted(parts, key=parts.__getitem__, reverse=True)
    shown = [
        f"{parts[one] / _GIB:,.1f} GiB for {_WHAT.get(one, one)}"
        for one in largest
        if parts[one] > total / _MENTIONED
    ]
    smaller = [f"a smaller {one}" for one in largest if parts[one] > total / _WORTH_CHANGING]
    raise UserError(
        f"the run would take about {total / _GIB:,.1f} GiB of memory, and this machine has "
        f"{free / _GIB:,.1f} GiB free: {', '.join(shown)}. Use {' and '.join(smaller)}"
    )
