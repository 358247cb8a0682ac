"""MLflow."""

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distill.train.loggers.background import Background, Row
from distill.train.loggers.logger import LoggedRun, LoggerKind

EXPERIMENT = "distill"
# What a name in MLflow may hold, and how much it takes at once.
_OTHER = re.compile(r"[^\w\-. :/]", re.ASCII)
_MOST_METRICS, _MOST_PARAMS, _LONGEST = 1000, 100, 6000
# What a run has logged at every line, to see how far an earlier start came.
_EVERYWHERE = "train/loss"
# MLflow's own are minutes, in which a run that begins says nothing. What is sent later is sent
# again with the next row.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


class MlflowRun:
    """A run of MLflow, kept where MLFLOW_TRACKING_URI says, else in WORKDIR/mlflow.db.

    The experiment is MLFLOW_EXPERIMENT_NAME's, else `distill`. A run that is resumed goes on in the
    same run. Rows are sent in the background, and again when MLflow could not be reached.
    """

    def __init__(self, run: LoggedRun):
        from mlflow.tracking import MlflowClient

        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        # It says what tables it makes.
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        # It says every try that failed; what comes of them all is said once.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        said = run.known.get("mlflow", {})
        # The workdir's own store moves with it.
        place = os.environ.get("MLFLOW_TRACKING_URI", "")
        own = f"sqlite:///{run.workdir / 'mlflow.db'}"
        self._client = MlflowClient(tracking_uri=place or own)
        self._logged = -1
        if said.get("place") == place:
            self._id = said["id"]
            self._client.update_run(self._id, status="RUNNING")
            history = self._client.get_metric_history(self._id, _EVERYWHERE)
            self._logged = max((one.step for one in history), default=-1)
        else:
            experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
            found = self._client.get_experiment_by_name(experiment)
            number = (
                self._client.create_experiment(experiment) if found is None else found.experiment_id
            )
            begun = self._client.create_run(number, run_name=run.workdir.name)
            self._id = begun.info.run_id
            run.remember("mlflow", {"id": self._id, "place": place})
        self._log_config(run.config)
        self._status = "KILLED"
        self._last = max(run.resume_step, 0)
        self._sender = Background("mlflow", self._send)

    def _log_config(self, config: Mapping[str, Any]) -> None:
        """Logs what is not logged yet: what MLflow has of a run does not change."""
        from mlflow.entities import Param

        there = self._client.get_run(self._id).data.params
        params = [
            Param(_OTHER.sub("_", key), str(value)[:_LONGEST])
            for key, value in _leaves(config)
            if _OTHER.sub("_", key) not in there
        ]
        for first in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(self._id, params=params[first : first + _MOST_PARAMS])

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Hands on the values of a step that was not logged before."""
        self._last = step
        if step > self._logged:
            self._sender.add(Row(step, dict(values), time.time()))

    def _send(self, rows: Sequence[Row]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(_OTHER.sub("_", name), value, round(row.seconds * 1000), row.step)
            for row in rows
            for name, value in row.values.items()
        ]
        for first in range(0, len(metrics), _MOST_METRICS):
            self._client.log_batch(self._id, metrics=metrics[first : first + _MOST_METRICS])

    def conclude(self, summary: Mapping[str, Any]) -> None:
        """Logs final figures as metrics of the last step, and as tags what is no number."""
        numbers = {k: float(v) for k, v in summary.items() if isinstance(v, int | float)}
        self._sender.add(Row(self._last, numbers, time.time()))
        for key in summary.keys() - numbers.keys():
            self._client.set_tag(self._id, _OTHER.sub("_", key), str(summary[key]))
        self._status = "FINISHED"

    def close(self) -> None:
        """Sends what is still here, and says how the run ended."""
        self._sender.close()
        self._client.set_terminated(self._id, self._status)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


LOGGERS = (
    LoggerKind(
        name="mlflow",
        open=MlflowRun,
        packages=("mlflow", "sqlalchemy", "alembic"),
        extra="mlflow",
    ),
)
