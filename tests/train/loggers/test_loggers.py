"""Loggers beside metrics.jsonl: chosen by name, and no run depends on them."""

import importlib.util
import logging
import shlex
import sys
import threading
import time
from types import ModuleType

import pytest
from support import pretrain_config
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from distill.config import ConfigError
from distill.errors import UserError
from distill.json_files import read_json
from distill.train.loggers.background import Background, Row
from distill.train.loggers.logger import LoggerKind, known_loggers
from distill.train.metrics import MetricsLog, open_log, read
from distill.train.workdir import Workdir
from pipelines import pretrain


class Kept:
    """A logger that keeps what it is told, and fails from a step on."""

    def __init__(self, run, fails_at=None):
        self.run, self.fails_at, self.told, self.closed = run, fails_at, [], False

    def write(self, step, values):
        if self.fails_at is not None and step >= self.fails_at:
            raise ConnectionError("no route\nto host")
        self.told.append((step, dict(values)))

    def conclude(self, summary):
        self.told.append(("summary", dict(summary)))

    def close(self):
        self.closed = True


@pytest.fixture
def add(monkeypatch):
    """Adds a logger under a name, and returns those that are opened of it."""

    def added(name, open=Kept, **declared):
        opened = []

        def open_it(run):
            opened.append(open(run))
            return opened[-1]

        kind = LoggerKind(name=name, open=open_it, **declared)
        monkeypatch.setitem(known_loggers(), name, kind)
        return opened

    return added


def warnings(caplog) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


def test_the_loggers_are_those_of_the_files():
    assert {*known_loggers()} == {"jsonl", "mlflow", "tensorboard", "wandb"}


@pytest.mark.parametrize(
    "loggers, message",
    [
        ("('wandbb',)", "expected some of jsonl, mlflow, tensorboard, wandb; did you mean 'wandb'"),
        ("wandbb", "expected some of jsonl, mlflow, tensorboard, wandb; did you mean 'wandb'"),
        ("wandb", """; type --config.train.loggers="('wandb',)\""""),
        ("('wandb','wandb')", "must name each once"),
    ],
)
def test_an_unknown_logger_is_refused_with_those_that_there_are(loggers, message):
    with pytest.raises(ConfigError, match=r"config\.train") as caught:
        pretrain_config(train__loggers=loggers)
    assert message in str(caught.value)


def test_a_missing_package_is_said_before_anything_else(tmp_path, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "wandb" else there(name)
    )
    config = pretrain_config(train__loggers="('tensorboard','wandb')")
    with pytest.raises(UserError, match=r"package wandb.*pip install -e '.\[wandb\]'"):
        pretrain.run(config, Workdir(tmp_path), overview=False)
    assert not (tmp_path / "config.json").exists()


def test_a_logger_that_fails_is_named_once_and_others_go_on(tmp_path, add, caplog):
    broken, sound = add("broken", lambda run: Kept(run, fails_at=2)), add("sound")
    log = MetricsLog(tmp_path, -1, ("broken", "sound"))
    for step in (1, 2, 3):
        log.write(step, {"train/loss": 1.0})
    log.conclude({"steps": 3})
    log.close()
    assert warnings(caplog) == ["broken gets nothing more of this run: no route to host"]
    assert [row["step"] for row in read(tmp_path)] == [1, 2, 3]
    assert [step for step, _ in broken[0].told] == [1]
    assert [step for step, _ in sound[0].told] == [1, 2, 3, "summary"] and sound[0].closed


def test_what_cannot_be_opened_ends_a_run_that_begins_and_none_that_goes_on(tmp_path, add, caplog):
    def refuses(run):
        raise ValueError("no API key")

    add("closed", refuses)
    with pytest.raises(UserError, match="cannot log to closed: no API key") as caught:
        MetricsLog(tmp_path, -1, ("tensorboard", "closed"))
    advice = str(caught.value).rpartition(": ")[2]
    assert shlex.split(advice) == ["--config.train.loggers=('tensorboard',)"]
    with pytest.raises(UserError) as caught:
        MetricsLog(tmp_path, -1, ("jsonl", "closed", "tensorboard"))
    advice = str(caught.value).rpartition(": ")[2]
    assert shlex.split(advice) == ["--config.train.loggers=('jsonl','tensorboard')"]
    with pytest.raises(UserError, match=r'"--config.train.loggers=\(\)"'):
        MetricsLog(tmp_path, -1, ("closed",))
    log = MetricsLog(tmp_path, 5, ("closed",))
    log.write(6, {"train/loss": 1.0})
    log.close()
    assert warnings(caplog) == ["closed gets nothing of this start of the run: no API key"]


def test_a_logger_knows_what_was_logged_after_the_checkpoint(tmp_path, add):
    opened = add("kept")
    log = MetricsLog(tmp_path, -1, ())
    for step in (1, 5, 9):
        log.write(step, {"train/loss": 1.0})
    log.close()
    MetricsLog(tmp_path, 5, ("kept",), {"seed": 0}).close()
    run = opened[0].run
    assert (run.resume_step, run.logged_step, run.config) == (5, 9, {"seed": 0})
    run.remember("kept", {"id": "a"})
    run.remember("other", {"id": "b"})
    assert run.known == {"kept": {"id": "a"}, "other": {"id": "b"}}
    assert read_json(tmp_path / "loggers.json")


def test_other_processes_open_nothing(tmp_path, add, monkeypatch):
    opened = add("kept")
    monkeypatch.setattr("distill.parallel.distributed.is_primary", lambda: False)
    log = open_log(tmp_path, 0, None, ("kept",), {})
    log.write(1, {})
    log.conclude({})
    assert opened == [] and not [*tmp_path.iterdir()]


def test_a_run_hands_on_its_config_its_metrics_and_its_end(tmp_path, add):
    opened = add("kept")
    config = pretrain_config(train__loggers="('kept',)")
    summary = pretrain.run(config, Workdir(tmp_path), overview=False).summary
    (kept,) = opened
    assert kept.run.config["train"]["loggers"] == ["kept"] and kept.run.workdir == tmp_path
    *rows, (end, concluded) = kept.told
    assert [{"step": step, **values} for step, values in rows] == read(tmp_path)
    assert end == "summary" and concluded == summary and "test/accuracy" in summary
    assert kept.closed and not [*tmp_path.glob("events.*")]


def test_tensorboard_shows_no_step_twice(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", ModuleType("notf"))
    for resume, steps in ((-1, (1, 5, 9)), (5, (7, 11))):
        log = MetricsLog(tmp_path, resume)
        for step in steps:
            log.write(step, {"train/loss": float(step)})
        log.close()
    shown = EventAccumulator(str(tmp_path)).Reload().Tensors("train/loss")
    assert [event.step for event in shown] == [1, 5, 7, 11]


class Service:
    """Takes rows, but not while it is away."""

    def __init__(self):
        self.away, self.rows, self.tried = False, [], 0

    def __call__(self, rows):
        self.tried += 1
        if self.away:
            raise ConnectionError("away")
        self.rows += [row.step for row in rows]

    def wait(self, condition):
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.002)


def test_rows_are_sent_again_when_the_service_is_back(caplog):
    service = Service()
    sender = Background("service", service)
    sender.add(Row(1, {}, 0.0))
    service.wait(lambda: service.rows == [1])
    service.away = True
    for step in (2, 3):
        tried = service.tried
        sender.add(Row(step, {}, 0.0))
        service.wait(lambda before=tried: service.tried > before)
    service.away = False
    sender.add(Row(4, {}, 0.0))
    sender.close()
    assert service.rows == [1, 2, 3, 4]
    assert warnings(caplog) == ["service cannot be reached: away; the run goes on"]


def test_what_was_never_sent_is_said_at_the_end(caplog):
    service = Service()
    service.away = True
    sender = Background("service", service)
    sender.add(Row(1, {}, 0.0))
    sender.close()
    assert warnings(caplog)[-1] == "service has not got the last 1 rows; metrics.jsonl has all"


def test_a_service_that_does_not_answer_keeps_nobody(caplog):
    release = threading.Event()
    sender = Background("service", lambda rows: release.wait(20), patience=0.05)
    sender.add(Row(1, {}, 0.0))
    began = time.monotonic()
    sender.close()
    assert time.monotonic() - began < 10
    release.set()
