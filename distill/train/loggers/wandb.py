"""Weights & Biases."""

import os
import secrets
from collections.abc import Mapping
from typing import Any

from distill.train.loggers.logger import LoggedRun, LoggerKind

PROJECT = "distill"


class WandbRun:
    """A run of W&B, in whose directory, WORKDIR/wandb, are its files.

    WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY, WANDB_API_KEY and the like are W&B's own. A run that is
    resumed goes on in the same run. Rows are handed to W&B's own process, which sends them.
    """

    def __init__(self, run: LoggedRun):
        import wandb

        said = run.known.get("wandb", {})
        self._run: Any = wandb.init(
            dir=run.workdir,
            project=said.get("project") or os.environ.get("WANDB_PROJECT") or PROJECT,
            entity=said.get("entity") or None,
            id=said.get("id") or secrets.token_hex(4),
            name=run.workdir.name,
            resume="allow",
            # Of students that are trained together, each has its own.
            reinit="create_new",
            config={**run.config},
            allow_val_change=True,
            # What a run prints is in train.log; W&B's own lines would go through the progress bar.
            settings=wandb.Settings(console="off", silent=True),
        )
        about = {"id": self._run.id, "project": self._run.project, "entity": self._run.entity}
        run.remember("wandb", about)
        # An earlier start may have logged steps after its last checkpoint. Offline, W&B does not
        # know what it was told before.
        logged = run.logged_step if said else -1
        self._logged = logged if self._run.offline else self._run.step - 1

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Logs the values of a step that was not logged before: steps only rise in W&B."""
        if step > self._logged:
            self._run.log(dict(values), step=step)

    def conclude(self, summary: Mapping[str, Any]) -> None:
        """Lays the final figures over W&B's summary, which has the last values."""
        self._run.summary.update(dict(summary))

    def close(self) -> None:
        """Waits until W&B has what it was told, or has kept it to send it later."""
        self._run.finish()


LOGGERS = (LoggerKind(name="wandb", open=WandbRun, packages=("wandb",), extra="wandb"),)
