"""Checkpoints by Orbax: written in the background, N kept, whole or absent.

A checkpoint is a directory `checkpoints/STEP` with the items `params` (all that a teacher, an
export or an evaluation reads), `optimizer` and `progress` (JSON: the data's position). Of a run
that averages its weights, `params` is the average, and `trained` what training goes on with.
`projections` holds what a student needs for its training alone. Orbax writes a checkpoint under a
temporary name and renames it when it is complete.
"""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as policies

from distill.nn import Params
from distill.tasks.matching.projections import PROJECTIONS
from distill.train.state import TrainState


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
    ):
        self._directory = (workdir / folder).resolve()
        kept = [policies.LatestN(n=keep)]
        if keep_every is not None:
            kept.append(policies.EveryNSteps(keep_every))
        if keep_step is not None:
            kept.append(policies.CustomSteps([keep_step]))
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(kept),
            create=not read_only,
            read_only=read_only,
            # What a killed run left half-written under a temporary name.
            cleanup_tmp_directories=not read_only,
        )
        handlers = {
            "params": ocp.StandardCheckpointHandler(),
            "projections": ocp.StandardCheckpointHandler(),
            "trained": ocp.StandardCheckpointHandler(),
            "optimizer": ocp.StandardCheckpointHandler(),
            "progress": ocp.JsonCheckpointHandler(),
        }
        self._manager = ocp.CheckpointManager(
            self._directory, options=options, item_handlers=handlers
        )

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
        params, projections = split_projections(state.weights)
        items = {
            "params": ocp.args.StandardSave(params),
            "optimizer": ocp.args.StandardSave(state.opt_state),
            "progress": ocp.args.JsonSave(progress),
        }
        if projections:
            items[PROJECTIONS] = ocp.args.StandardSave(projections)
        if state.average is not None:
            items["trained"] = ocp.args.StandardSave(state.params)
        self._manager.save(step, args=ocp.args.Composite(**items))

    def restore(self, abstract: TrainState, step: int) -> tuple[TrainState, dict[str, Any]]:
        """The state of `step`, read straight into the shardings of `abstract`, and its progress."""
        params, projections = split_projections(abstract.weights)
        asked = {
            "params": ocp.args.StandardRestore(params),
            "optimizer": ocp.args.StandardRestore(abstract.opt_state),
            "progress": ocp.args.JsonRestore(),
        }
        if projections:
            asked[PROJECTIONS] = ocp.args.StandardRestore(projections)
        averaged = abstract.average is not None
        if averaged:
            asked["trained"] = ocp.args.StandardRestore(abstract.params)
        items = self._manager.restore(step, args=ocp.args.Composite(**asked))
        count = jax.device_put(jax.numpy.asarray(step, "int32"), abstract.step.sharding)
        weights = items.params | ({PROJECTIONS: items.projections} if projections else {})
        params, average = (items.trained, weights) if averaged else (weights, None)
        return TrainState(count, params, items.optimizer, average), items.progress

    def restore_params(self, abstract: Params, step: int) -> Params:
        """The parameters of `step` alone, in the shardings and dtypes of `abstract`."""
        items = self._manager.restore(
            step, args=ocp.args.Composite(params=ocp.args.StandardRestore(abstract))
        )
        return items.params

    def wait(self) -> None:
        """Returns when everything saved is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then stops Orbax's threads."""
        self._manager.close()


def split_projections(weights: Params) -> tuple[Params, Params]:
    """A network's parameters without its projections, and these."""
    rest = {name: part for name, part in weights.items() if name != PROJECTIONS}
    return rest, weights.get(PROJECTIONS, {})
