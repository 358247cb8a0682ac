"""What the services' own packages make of a run, offline."""

import json
import os
import sqlite3
import struct

import pytest
from support import REPOSITORY, run_python

from distill.json_files import read_json
from distill.train.metrics import read

pytestmark = pytest.mark.slow

CONFIG = {"seed": 0, "model": {"width": 16, "name": "ViT"}, "evals": {}}
SUMMARY = {"steps": 11, "test/accuracy": 0.75, "branched_from": "runs/a@5"}


START = """
import json, sys
from pathlib import Path
from distill.train.metrics import MetricsLog
workdir, logger, resume, steps, config, summary = (json.loads(one) for one in sys.argv[1:])
log = MetricsLog(Path(workdir), resume, (logger,), config)
for step in steps:
    log.write(step, {"train/loss": float(step), "retrieval/text_to_image@1": 0.5})
if summary:
    log.conclude(summary)
log.close()
"""


def log_twice(workdir, logger):
    """A run that is killed after step 9 and goes on from step 5, each time in a process."""
    for resume, steps, summary in ((-1, (1, 5, 9), None), (5, (7, 9, 11), SUMMARY)):
        given = map(json.dumps, (str(workdir), logger, resume, steps, CONFIG, summary))
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        done = run_python("-c", START, *given, cwd=workdir.parent, env=environment)
        # Nothing is said of a service that takes everything.
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert [row["step"] for row in read(workdir)] == [1, 5, 7, 9, 11]


def records(content):
    """The records of W&B's file: a log as LevelDB's, after a header of seven bytes."""
    assert content[:4] == b":W&B"
    block, place, parts = 32768, 7, b""
    while place + 7 <= len(content):
        if block - place % block < 7:
            place += block - place % block
        _, length, kind = struct.unpack_from("<IHB", content, place)
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        # Whole, or the last part of one.
        if kind in (1, 4):
            yield parts
            parts = b""


def test_wandb_goes_on_with_its_run_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed: pip install -e '.[wandb]'")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    workdir = tmp_path / "student"
    workdir.mkdir()
    log_twice(workdir, "wandb")
    assert [one.name for one in tmp_path.iterdir()] == ["student"]
    said = read_json(workdir / "loggers.json")["wandb"]
    files = sorted((workdir / "wandb").glob(f"offline-run-*/run-{said['id']}.wandb"))
    assert len(files) == 2 and said["project"] == "distill"
    steps, configs, summary = [], {}, {}
    for file in files:
        for data in records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.HasField("history"):
                steps.append(record.history.step.num)
            if record.HasField("run"):
                for one in record.run.config.update:
                    configs[one.key or "/".join(one.nested_key)] = one.value_json
                assert record.run.display_name == "student"
            for one in record.summary.update:
                summary[one.key or "/".join(one.nested_key)] = one.value_json
    # Step 9 was logged before; 7 lies before it, and steps only rise in W&B.
    assert steps == [1, 5, 9, 11]
    assert configs["seed"] == "0" and '"width": 16' in configs["model"].replace(":16", ": 16")
    assert summary["test/accuracy"] == "0.75"


def test_mlflow_goes_on_with_its_run_in_the_workdir(tmp_path, monkeypatch):
    for package in ("mlflow", "sqlalchemy", "alembic"):
        pytest.importorskip(
            package, reason=f"{package} is not installed: pip install -e '.[mlflow]'"
        )
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    workdir = tmp_path / "student"
    workdir.mkdir()
    log_twice(workdir, "mlflow")
    assert [one.name for one in tmp_path.iterdir()] == ["student"]
    number = read_json(workdir / "loggers.json")["mlflow"]["id"]
    client = MlflowClient(tracking_uri=f"sqlite:///{workdir / 'mlflow.db'}")
    run = client.get_run(number)
    assert run.info.run_name == "student" and run.info.status == "FINISHED"
    assert run.data.params == {
        "seed": "0", "model.width": "16", "model.name": "ViT", "evals": "{}"
    }  # fmt: skip
    losses = client.get_metric_history(number, "train/loss")
    assert [(one.step, one.value) for one in losses] == [(1, 1), (5, 5), (9, 9), (11, 11)]
    assert run.data.metrics["retrieval/text_to_image_1"] == 0.5
    assert run.data.metrics["test/accuracy"] == 0.75
    assert run.data.tags["branched_from"] == "runs/a@5"
    with sqlite3.connect(workdir / "mlflow.db") as database:
        assert database.execute("select count(*) from runs").fetchone() == (1,)


def test_mlflow_that_does_not_answer_is_said_soon_and_once(tmp_path):
    """In a process of its own: what MLflow logs goes past the logging that tests see."""
    pytest.importorskip("mlflow", reason="mlflow is not installed: pip install -e '.[mlflow]'")
    script = """
import sys
from pathlib import Path
from distill.errors import UserError
from distill.train.metrics import MetricsLog
try:
    MetricsLog(Path(sys.argv[1]), -1, ("tensorboard", "mlflow"))
except UserError as error:
    print(error)
"""
    # A port that nothing listens to.
    env = {**os.environ, "MLFLOW_TRACKING_URI": "http://127.0.0.1:1"}
    done = run_python("-c", script, str(tmp_path), env=env)
    first, advice = done.stdout.splitlines()
    assert first.startswith("cannot log to mlflow: API request to http://127.0.0.1:1/")
    assert advice == "Mend that, or leave it out: \"--config.train.loggers=('tensorboard',)\""
    assert "Retry" not in done.stderr
