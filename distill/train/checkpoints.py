"""Checkpoints by Orbax: written in the background, N kept, whole or absent.

A checkpoint is a directory `checkpoints/STEP` with the items `params` (all that a teacher, an
export or an evaluation reads), `optimizer` and `progress` (JSON: the step, the data's position). Of
a run that averages its weights, `params` is the average, and `trained` what training goes on with.
What only training needs, such as a student's `projections`, is an item of its own by its name among
the parameters. Orbax writes a checkpoint under a temporary name and renames it when it is complete.
Every item has checksums of its files, which are compared before anything of it is read.
"""

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as policies

from distill.nn import Params
from distill.parallel import distributed
from distill.parallel.printed import say
from distill.train.checked_items import (
    Arrays,
    Json,
    RestoreArrays,
    RestoreJson,
    SaveArrays,
    SaveJson,
)
from distill.train.damage import (
    BEST,
    check_directory,
    check_kept,
    check_sound,
    damaged,
    kept_problem,
    metrics_file,
    steps_in,
)
from distill.train.state import TrainState

_ITEMS = {"params", "trained", "optimizer", "progress"}


class Checkpoints:
    """The checkpoints of one workdir: the newest `keep`, multiples of `keep_every`, `keep_step`.

    Where several processes take part, each writes and reads the parts that its devices hold, and
    all of them must call every method.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        keep: int | None = None,
        keep_every: int | None = None,
        keep_step: int | None = None,
        read_only: bool = False,
        folder: str = "checkpoints",
        training_only: Collection[str] = (),
    ):
        """Opens them.

        Args:
          workdir: of the run.
          keep: how many of the newest to keep; None keeps all.
          keep_every: and those of steps that are its multiples.
          keep_step: and that of this step.
          read_only: writes and deletes nothing.
          folder: in the workdir.
          training_only: top-level names of parameters that are saved apart from `params`.

        Raises:
          ValueError: if one of these names is another item's.
          Damaged: if best weights do not say what they were kept for, a file is in the directory's
            place, or a complete run that is opened to be trained has none.
        """
        if taken := _ITEMS & set(training_only):
            raise ValueError(f"a checkpoint has {', '.join(sorted(taken))} already; rename it")
        self._training_only = tuple(training_only)
        self._read_only = read_only
        self._keep, self._keep_every, self._keep_step = keep, keep_every, keep_step
        self._directory = (workdir / folder).resolve()
        check_directory(self._directory)
        if folder == BEST:
            _check_best(self._directory)
        elif not read_only:
            check_kept(workdir)
        # What a killed run left half-written. Orbax would do so in a thread, for which it waits
        # before it saves: a run that ends before that would leave it, or end amid it.
        if not read_only:
            remove_unfinished(self._directory)
        kept: list[policies.PreservationPolicy] = [policies.LatestN(n=keep)]
        if keep_every is not None:
            kept.append(policies.EveryNSteps(keep_every))
        if keep_step is not None:
            kept.append(policies.CustomSteps([keep_step]))
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(kept),
            create=not read_only,
            read_only=read_only,
        )
        handlers: dict[str, ocp.CheckpointHandler] = {
            name: Arrays() for name in ("params", "trained", "optimizer", *self._training_only)
        }
        handlers["progress"] = Json()
        self._manager = ocp.CheckpointManager(
            self._directory, options=options, item_handlers=handlers
        )

    @property
    def directory(self) -> str:
        """Where they lie."""
        return str(self._directory)

    def prune(self, also: int | None = None) -> None:
        """Deletes those that are not to be kept, as a kill may have come before that.

        Args:
          also: a step whose checkpoint is kept besides.
        """
        if self._keep is None:
            return
        steps = self.steps
        for step in steps[: -self._keep]:
            is_multiple = self._keep_every is not None and step % self._keep_every == 0
            if not is_multiple and step not in (self._keep_step, also):
                self._manager.delete(step)

    @property
    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    @property
    def latest_step(self) -> int | None:
        """Step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def save(self, state: TrainState, progress: dict[str, Any]) -> None:
        """Starts writing `state` in the background; saving a step twice is no error."""
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        params, apart = split_params(state.weights, self._training_only)
        items = {
            "params": SaveArrays(params),
            "optimizer": SaveArrays(state.opt_state),
            "progress": SaveJson(progress | {"step": step}),
        }
        items |= {name: SaveArrays(_tree(name, part)) for name, part in apart.items()}
        if state.average is not None:
            items["trained"] = SaveArrays(state.params)
        self._manager.save(step, args=ocp.args.Composite(**items))

    def restore(self, abstract: TrainState, step: int) -> tuple[TrainState, dict[str, Any]]:
        """The state of `step`, read straight into the shardings of `abstract`, and its progress.

        Raises:
          Damaged: if it is not what was written.
        """
        params, apart = split_params(abstract.weights, self._training_only)
        asked = {
            "params": RestoreArrays(params),
            "optimizer": RestoreArrays(abstract.opt_state),
            "progress": RestoreJson(),
        }
        asked |= {name: RestoreArrays(_tree(name, part)) for name, part in apart.items()}
        averaged = abstract.average is not None
        if averaged:
            asked["trained"] = RestoreArrays(abstract.params)
        items = self._read(step, asked)
        count = jax.device_put(jax.numpy.asarray(step, "int32"), abstract.step.sharding)
        weights = items["params"] | {
            name: items[name] if isinstance(part, dict) else items[name][name]
            for name, part in apart.items()
        }
        params, average = (items["trained"], weights) if averaged else (weights, None)
        return TrainState(count, params, items["optimizer"], average), items["progress"]

    def restore_params(self, abstract: Params, step: int) -> Params:
        """The parameters of `step` alone, in the shardings and dtypes of `abstract`.

        Raises:
          Damaged: if they are not what was written.
        """
        return self._read(step, {"params": RestoreArrays(abstract)})["params"]

    def _read(self, step: int, asked: dict[str, Any]) -> Any:
        """The items that are asked for, once they are known to be sound."""
        checkpoint = self._directory / str(step)
        if check_sound(checkpoint, asked.keys()):
            return self._manager.restore(step, args=ocp.args.Composite(**asked))
        say(f"{checkpoint} was saved without checksums, by an earlier version: it is not checked")
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**asked))
        except (KeyError, OSError, ValueError) as error:
            told = str(error).strip().partition("\n")[0]
            raise damaged(
                checkpoint, [f"{told}; it has no checksums to tell which file"]
            ) from error

    def wait(self) -> None:
        """Returns when everything saved is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then stops Orbax's threads; what they could not finish is removed."""
        try:
            self._manager.close()
        finally:
            if not self._read_only:
                remove_unfinished(self._directory)


def _check_best(folder: Path) -> None:
    """Checks what best weights say of themselves: Orbax reads it of all when they are opened."""
    for step in steps_in(folder):
        if metrics_file(folder / str(step)).exists() and (
            problem := kept_problem(folder / str(step))
        ):
            raise damaged(folder / str(step), [problem])


def remove_unfinished(directory: Path) -> None:
    """Removes what Orbax has begun in a directory and cannot finish; the primary does it."""
    if distributed.is_primary():
        for left in directory.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(left, ignore_errors=True)


def _tree(name: str, part: Any) -> Params:
    """A module's parameters, or a single one by its name: Orbax writes no bare arrays."""
    return part if isinstance(part, dict) else {name: part}


def split_params(weights: Params, training_only: Collection[str]) -> tuple[Params, Params]:
    """The parameters of the finished model, and those that only its training needs."""
    finished = {name: part for name, part in weights.items() if name not in training_only}
    return finished, {name: weights[name] for name in training_only if name in weights}
