"""Plans of one run executed in several ways: meshes, rematerialisation and microbatches."""

import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distill.errors import UserError
from distill.estimate.cluster import Cluster
from distill.estimate.jobs import Planned, make_plan, model_of, takes_microbatches
from distill.estimate.machines import Machine
from distill.estimate.plan import Plan
from distill.nn.family import ModelConfig
from distill.parallel import MeshConfig
from distill.parallel.printed import say
from distill.train.progress import format_seconds
from distill.train.run import blame


def variations(
    config: Planned,
    machine: Machine,
    meshes: Sequence[Mapping[str, int]] = (),
    policies: Sequence[str] = (),
    microbatches: Sequence[int] = (),
) -> Iterator[Planned]:
    """What a sweep tries.

    Args:
      config: of the run.
      machine: what it runs on.
      meshes: sizes by axis; nothing takes the run's and some others that fill the machine.
      policies: of rematerialisation, for all towers; nothing takes the run's.
      microbatches: numbers of them; nothing takes the run's and twice as many.
    """
    # A further axis that takes the devices that are left finds none.
    devices = machine.device_count
    shared = devices // math.prod(max(size, 1) for _, size in config.mesh.axes)
    # A roofline knows nothing of products that are cut.
    tensors = (1,) if isinstance(machine, Cluster) else (1, 2)
    meshes = meshes or [
        *_own(config.mesh, devices),
        *(
            dict(data=shared // (fsdp * tensor), fsdp=fsdp, tensor=tensor)
            for tensor in tensors
            for fsdp in sorted({min(size, shared // tensor) for size in (16, 64, shared)})
            if fsdp and shared % (fsdp * tensor) == 0
        ),
    ]
    # Each once.
    resized = dict.fromkeys(map(config.mesh.resized, meshes))
    parts = config.train.microbatches
    microbatches = microbatches or ([parts, 2 * parts] if takes_microbatches(config) else [parts])
    for mesh, remat, parts in itertools.product(resized, policies or [None], microbatches):
        with blame("--sweep_remat"):
            yield dataclasses.replace(
                config,
                mesh=mesh,
                model=_with_policy(model_of(config), remat),
                train=dataclasses.replace(config.train, microbatches=parts),
            )


def _own(mesh: MeshConfig, devices: int) -> Iterator[dict[str, int]]:
    """The sizes of the run's mesh, if they fill the machine."""
    with contextlib.suppress(ValueError):
        yield mesh.sizes(devices)


def _with_policy(model: ModelConfig, remat: Any) -> ModelConfig:
    """The model with another rematerialisation; None keeps its own."""
    if remat is None:
        return model
    kept = model.remat_keep if remat in ("full", "offload") else ()
    return model.executed(remat=remat, remat_keep=kept)


def sweep(
    tried: Sequence[Planned], topology: Machine, steps: int | None, train_images: int | None
) -> Iterator[tuple[Planned, Plan]]:
    """Plans each variation that can be planned, and says how far it is.

    Args:
      tried: the variations.
      topology: the slice.
      steps: the run's length; None where nobody knows it.
      train_images: how many there are; None where nobody knows it.
    """
    began = time.perf_counter()
    for number, variation in enumerate(tried, 1):
        try:
            plan = make_plan(variation, topology, steps, train_images)
        except UserError as error:
            # What cannot be planned must not lose what has been.
            say(f"left out: {error}")
        else:
            yield variation, plan
        left = (time.perf_counter() - began) / number * (len(tried) - number)
        say(f"tried {number} of {len(tried)}; {format_seconds(left)} left")
