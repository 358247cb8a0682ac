"""The weights that did best so far by one metric, beside the checkpoints.

`best/STEP` holds the items `params`, as a checkpoint does, and `metrics` (JSON: the metric's name
and value). Orbax writes it under a temporary name, renames it when it is complete, and only then
deletes the one before.

A run that resumes reads back what was best, and keeps it even if it comes from a step that is yet
to be done again. No step between is better, and the step itself comes out the same, so the run ends
with what it would have ended with. Only if it goes on in another way (on another mesh, evaluating
at other steps) may `best` hold weights of this run that `metrics.jsonl` no longer tells of.
"""

import math
import shutil
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from pathlib import Path

import orbax.checkpoint as ocp

from distill.errors import UserError, did_you_mean
from distill.json_files import read_json, with_checksum
from distill.nn import Params
from distill.parallel import distributed
from distill.train.checked_items import Arrays, SaveArrays
from distill.train.checkpoints import remove_unfinished, split_params
from distill.train.damage import BEST as FOLDER
from distill.train.damage import (
    check_directory,
    check_sound,
    damaged,
    kept_problem,
    metrics_file,
    steps_in,
)

_LESS_IS_BETTER = ("loss", "kl", "cross_entropy", "error")


def less_is_better(metric: str) -> bool:
    """Whether a metric is one to minimise, as its name says: a loss, KL, cross-entropy or error."""
    return metric.endswith(_LESS_IS_BETTER)


def check_metric(
    best: str, found: Iterable[frozenset[str] | None], key: str = "config.train.keep_best"
) -> None:
    """Checks, before a run begins, that what it keeps weights by is evaluated.

    Args:
      best: the metric, such as `val/accuracy`.
      found: of each evaluation the names of what it finds, `*` for what its images name; None of
        one that cannot say.
      key: of the config, for the error.

    Raises:
      UserError: if none does.
    """
    found = list(found)
    known = sorted(set().union(*(names for names in found if names is not None)))
    if best in known or any(fnmatchcase(best, name) for name in known if "*" in name):
        return
    head = best.partition("/")[0]
    if None in found and head not in {name.partition("/")[0] for name in known}:
        return
    raise UserError(
        f"{key} is {best!r}, which is not evaluated; there are "
        f"{', '.join(known) or 'no evaluations'}{did_you_mean(best, known)}"
    )


def kept_by(workdir: Path, step: int) -> tuple[str, float]:
    """The metric by which the weights in `best/STEP` were kept, and its value there.

    Raises:
      Damaged: if that is not what was written.
      UserError: if it cannot be read.
    """
    checkpoint = workdir / FOLDER / str(step)
    if problem := kept_problem(checkpoint):
        raise damaged(checkpoint, [problem])
    kept = read_json(metrics_file(checkpoint))
    return kept["metric"], kept["value"]


def _last_written(folder: Path) -> int | None:
    """The step of the weights that were written last, and so are the best; all processes get one.

    There are others where a kill came before they were deleted, or amid that. It need not be the
    last step, see `Best.offer`.
    """

    def written(step: int) -> tuple[int, int]:
        try:
            when = read_json(folder / str(step) / "_CHECKPOINT_METADATA")["commit_timestamp_nsecs"]
        except (UserError, KeyError, TypeError):
            when = 0
        return (when if isinstance(when, int) else 0), step

    found = distributed.agree(max(steps_in(folder), key=written, default=-1))
    return None if found < 0 else found


def _remove_others(folder: Path, kept: int) -> None:
    """Removes weights that were to be deleted; no process goes on before it is done."""
    if distributed.is_primary():
        for step in set(steps_in(folder)) - {kept}:
            shutil.rmtree(folder / str(step), ignore_errors=True)
    distributed.agree(0)


class Best:
    """The best of one workdir, at most one; the earliest among equals.

    Where several processes take part, each writes the parts that its devices hold, and all of them
    must call every method, with the same values.

    Args:
      workdir: of the run.
      metric: the name of what is offered, such as `val/accuracy`; the best by another is deleted.
      training_only: top-level names of parameters that are no part of the finished model.

    Raises:
      Damaged: if what is there is not what was written.
    """

    def __init__(self, workdir: Path, metric: str, *, training_only: Collection[str] = ()):
        self._directory = (workdir / FOLDER).resolve()
        check_directory(self._directory)
        remove_unfinished(self._directory)
        last = _last_written(self._directory)
        if last is not None:
            check_sound(workdir / FOLDER / str(last), ("params",))
            kept_by(workdir, last)
            _remove_others(self._directory, last)
        self._metric = metric
        self._training_only = tuple(training_only)
        self._sign = -1.0 if less_is_better(metric) else 1.0
        options = ocp.CheckpointManagerOptions(
            max_to_keep=1,
            best_fn=lambda kept: self._sign * kept["value"],
            keep_checkpoints_without_metrics=False,
        )
        self._manager = ocp.CheckpointManager(
            self._directory,
            options=options,
            item_handlers={"params": Arrays()},
        )
        self.step: int | None = None
        """Of the best so far; None if there is none."""
        self.value: float | None = None
        """Of the metric at that step."""
        self._read_back()

    def offer(self, step: int, value: float, weights: Params) -> bool:
        """Starts writing weights in the background if they are better than the best so far.

        Call `wait` before a checkpoint of this step or a later one is written: a run that resumes
        from it does not come back here.

        Args:
          step: at which they were evaluated.
          value: of the metric; one that is not finite is no better than any.
          weights: to keep, but for those that only training needs.

        Returns:
          Whether they are the best now.
        """
        # The step is the same when it is done again.
        if step == self.step or not self._is_better(value):
            return False
        params, _ = split_params(weights, self._training_only)
        # By force, as an earlier step may be better if the run goes on in another way.
        self._manager.save(
            step,
            args=ocp.args.Composite(params=SaveArrays(params)),
            metrics=with_checksum({"metric": self._metric, "value": value}),
            force=True,
        )
        self.step, self.value = step, value
        return True

    def wait(self) -> None:
        """Returns when the best is on disk and the one before is deleted."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then stops Orbax's threads; what they could not finish is removed."""
        try:
            self._manager.close()
        finally:
            remove_unfinished(self._directory)

    def _is_better(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        return self.value is None or self._sign * value > self._sign * self.value

    def _read_back(self) -> None:
        found = self._manager.best_step()
        # No process deletes anything before all have looked.
        found = distributed.agree(-1 if found is None else found)
        if found >= 0:
            kept = self._manager.metrics(found)
            if kept is not None and kept["metric"] == self._metric:
                self.step, self.value = found, kept["value"]
        # A kill may have come before the last but one was deleted.
        for step in self._manager.all_steps():
            if step != self.step:
                self._manager.delete(step)
