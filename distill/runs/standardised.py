"""Means and variances of what teachers say, taken before a run begins and kept in its workdir."""

import dataclasses
import functools
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from safetensors.numpy import save

from distill.data import Splits, Store, TrainLoader
from distill.errors import Damaged, UserError
from distill.json_files import CHECKSUM, replace_file
from distill.nn import Params
from distill.parallel import distributed, in_flight, local_rows, put_batch, replicated
from distill.parallel.compiling import jit_replicated, ordered_options
from distill.parallel.printed import say
from distill.tasks.matching.function_matching import FunctionMatching
from distill.tasks.matching.standardise import STATISTICS, Moments, Statistics, batch_moments
from distill.tensor_files import open_file
from distill.train.branch import origin_of
from distill.train.run import RunConfig
from distill.train.step import prepare
from distill.train.trainee import Trainee

FILE = "statistics.safetensors"
"""In a workdir: what teachers were standardised by, `FEATURE/TEACHER/STATISTIC`, float32."""


def teacher_statistics(
    name: str,
    trainees: Mapping[str, Trainee],
    frozen: Mapping[str, Params],
    resumed: bool,
    *,
    splits: Splits,
    size: int,
    store: Store | None,
) -> dict[str, Statistics]:
    """What the teachers of a run are standardised by, on the mesh, under `STATISTICS`.

    Nothing if they are not. Taken from the run's first batches and written to the workdirs, or read
    there: components that vary nearly alike may be found in another order on another machine, and
    a projection is learnt for one. A branch has those of the run that it comes from.

    Args:
      name: what messages call the run.
      trainees: students; what their tasks ask the teachers is the same for all.
      frozen: parameters of the teachers that are there, by name.
      resumed: whether the run has a checkpoint to go on from.
      splits: the images.
      size: side of the views in pixels.
      store: of what the teachers said, if they are not there.

    Raises:
      UserError: if they are damaged, or gone from the workdir of a run that has begun.
      RunFailed: if what teachers say does not vary, or is not finite.
    """
    first = next(iter(trainees.values()))
    task, branch_from = first.task, first.config.branch_from
    assert isinstance(task, FunctionMatching)
    if not task.standardised:
        return {}
    files = [one.workdir.path / FILE for one in trainees.values()]
    known = [*files, *([origin_of(branch_from) / FILE] if branch_from else [])]
    there = [place for place, file in enumerate(known) if file.exists()]
    place = distributed.agree(there[0] if there else -1)
    if place >= 0:
        arrays = _read(known[place], task)
    elif resumed or branch_from:
        raise UserError(
            f"{known[-1]} is gone, by which the run's teachers are standardised; restore it, or "
            "begin in a new --workdir"
        )
    else:
        say(
            f"{name}: teachers' means and variances are taken from the first "
            f"{task.config.standardise_batches} batches"
        )
        arrays = _measured(task, first.config, frozen, splits, size, store)
    if distributed.is_primary():
        for file in files:
            if not file.exists():
                _write(file, arrays)
    # What one process has computed, to the last bit.
    distributed.agree(0)
    return {STATISTICS: _placed(_read(files[0], task), task.student.mesh)}


def _measured(
    task: FunctionMatching,
    config: RunConfig,
    frozen: Mapping[str, Params],
    splits: Splits,
    size: int,
    store: Store | None,
) -> dict[str, np.ndarray]:
    """The statistics by name, over what a run is shown in its first batches."""
    matching, batch_size, mesh = task.config, config.train.batch_size, task.student.mesh
    kind = matching.standardise
    assert kind != "none"
    asking = dataclasses.replace(task, config=dataclasses.replace(matching, standardise="none"))
    # All that training compiles on a CPU: nothing else would give the same last bits, whether
    # teachers are asked now or what they said was stored.
    ask = jax.jit(
        lambda frozen, batch, step: prepare(asking, config.seed, step, frozen, batch),
        compiler_options=ordered_options(mesh),
    )
    take = jit_replicated(
        lambda prepared: batch_moments(prepared.teachers, task.abstract_statistics, kind), mesh
    )
    loader = TrainLoader(
        splits.train,
        config.data,
        size=size,
        batch_size=batch_size,
        seed=config.seed,
        put=functools.partial(put_batch, mesh, size=batch_size),
        rows=local_rows(mesh, batch_size),
        teacher_view=matching.teacher_view,
        store=store,
    )
    found: dict[str, Moments] = {}
    try:
        taken = (
            take(ask(frozen, next(loader), np.int32(step)))
            for step in range(matching.standardise_batches)
        )
        for moments in map(jax.device_get, in_flight(taken)):
            for feature, teachers in moments.items():
                for teacher, (mean, spread) in teachers.items():
                    found.setdefault(f"{feature}/{teacher}", Moments()).add(mean, spread)
    finally:
        loader.close()
    return {
        f"{whose}/{statistic}": values
        for whose, moments in found.items()
        for statistic, values in moments.statistics(whose).items()
    }


def _write(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes them whole or not at all, with a checksum."""
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    replace_file(file, save(arrays, {CHECKSUM: _checksum(arrays)}))


def _read(file: Path, task: FunctionMatching) -> dict[str, np.ndarray]:
    content = open_file(file)
    wanted = {
        f"{feature}/{teacher}/{statistic}": one.shape
        for feature, teachers in task.abstract_statistics.items()
        for teacher, statistics in teachers.items()
        for statistic, one in statistics.items()
    }
    there = {name: tensor.shape for name, tensor in content.tensors.items()}
    if there != wanted:
        raise UserError(
            f"{file} is not of this run: it holds {_listed(there)}, expected {_listed(wanted)}"
        )
    arrays = {name: content.read(name) for name in wanted}
    if content.metadata.get(CHECKSUM, _checksum(arrays)) != _checksum(arrays):
        raise Damaged(
            f"{file} is damaged: it does not hold what was written, as its {CHECKSUM} tells. Put "
            "back a copy of it, or begin in a new --workdir"
        )
    return arrays


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    crc = 0
    for name, array in sorted(arrays.items()):
        crc = zlib.crc32(array.tobytes(), zlib.crc32(f"{name} {array.dtype}".encode(), crc))
    return f"crc32:{crc:08x}"


def _listed(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in sorted(shapes.items()))


def _placed(arrays: Mapping[str, np.ndarray], mesh: Mesh) -> Statistics:
    """The tree of statistics, whole on each device."""
    placed: Any = {}
    for name, array in arrays.items():
        feature, teacher, statistic = name.split("/")
        whole = jax.make_array_from_callback(
            array.shape, replicated(mesh), lambda index, of=array: of[index]
        )
        placed.setdefault(feature, {}).setdefault(teacher, {})[statistic] = whole
    return placed
