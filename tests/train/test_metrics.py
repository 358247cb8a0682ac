import json
import math
import sys
from types import ModuleType

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from distill.train.metrics import MetricsLog, read, series


@pytest.fixture(autouse=True)
def without_tensorflow(monkeypatch):
    """TensorBoard reads with TensorFlow wherever it finds it, which takes seconds to import."""
    monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", ModuleType("notf"))


@pytest.fixture
def log(tmp_path):
    """Opens a metrics log, writes rows and closes it."""

    def write(*rows, resume_step=0, workdir=tmp_path):
        metrics = MetricsLog(workdir, resume_step)
        for row in rows:
            values = dict(row)
            metrics.write(values.pop("step"), values)
        metrics.close()
        return read(workdir)

    return write


def rows(*steps, loss=1.0):
    return [{"step": step, "train/loss": loss + step} for step in steps]


def test_what_is_written_is_read(log):
    written = [
        {"step": 10, "train/loss": 0.123456789, "train/images_per_second": 1e5},
        {"step": 20, "train/loss": 1e-30},
        {"step": 20, "val/accuracy": 0.5},
    ]
    assert log(*written) == written


def test_file_holds_one_object_a_line(log, tmp_path):
    log(*rows(1, 2, 3))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows(1, 2, 3)


def test_arrays_are_written_as_numbers(log):
    (row,) = log({"step": 1, "a": np.float32(0.5), "b": jnp.float32(0.25), "c": np.int64(3)})
    assert row == {"step": 1, "a": 0.5, "b": 0.25, "c": 3.0}


def test_values_that_are_not_finite_survive(log):
    (row,) = log({"step": 1, "a": math.nan, "b": math.inf})
    assert math.isnan(row["a"]) and row["b"] == math.inf


def test_run_that_has_written_nothing_has_no_rows(log, tmp_path):
    assert read(tmp_path) == []
    assert log() == []


def test_what_is_logged_can_be_read_at_once(tmp_path):
    metrics = MetricsLog(tmp_path, 0)
    for step in (1, 2):
        metrics.write(step, {"train/loss": 1.0 + step})
        assert read(tmp_path) == rows(*range(1, step + 1))
        shown = EventAccumulator(str(tmp_path)).Reload().Tensors("train/loss")
        assert [event.step for event in shown] == list(range(1, step + 1))
    metrics.close()


@pytest.mark.parametrize("cut", ['{"step": 3, "trai', '{"step": 3', "{", '{"step": 3, "a": 1.2'])
def test_last_line_cut_off_by_a_kill_is_left_out(log, tmp_path, cut):
    log(*rows(1, 2))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(cut)
    assert read(tmp_path) == rows(1, 2)


def test_resuming_after_a_kill_writes_over_the_cut_off_line(log, tmp_path):
    log(*rows(1, 2))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "trai')
    assert log(*rows(3, 4), resume_step=2) == rows(1, 2, 3, 4)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]


def test_lines_after_the_step_resumed_from_are_dropped(log):
    log(*rows(10, 20, 30, 40))
    assert log(resume_step=20) == rows(10, 20)


def test_steps_done_again_appear_once_with_their_new_values(log):
    log(*rows(10, 20, 30))
    assert log(*rows(20, 30, loss=5.0), resume_step=10) == rows(10) + rows(20, 30, loss=5.0)


def test_new_run_starts_an_empty_log(log):
    log(*rows(10, 20))
    assert log(*rows(5), resume_step=0) == rows(5)


def test_series_holds_the_steps_that_have_the_metric():
    found = [*rows(1, 2), {"step": 2, "val/accuracy": 0.5}, *rows(3)]
    steps, values = series(found, "train/loss")
    assert steps.tolist() == [1, 2, 3] and values.tolist() == [2.0, 3.0, 4.0]
    steps, values = series(found, "val/accuracy")
    assert steps.tolist() == [2] and values.tolist() == [0.5]
    steps, values = series(found, "val/agreement")
    assert len(steps) == len(values) == 0


def test_each_start_of_a_run_writes_events_of_its_own(log, tmp_path):
    log(*rows(1, 2))
    log(*rows(3), resume_step=2)
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 2
    shown = EventAccumulator(str(tmp_path)).Reload().Tensors("train/loss")
    assert [event.step for event in shown] == [1, 2, 3]


def test_tensorboard_shows_the_same_numbers(log, tmp_path):
    written = log(*rows(1, 2, 5), {"step": 5, "val/accuracy": 0.75})
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["tensors"]) == {"train/loss", "val/accuracy"}
    for name in ("train/loss", "val/accuracy"):
        shown = [(e.step, float(make_ndarray(e.tensor_proto))) for e in events.Tensors(name)]
        assert shown == list(zip(*map(np.ndarray.tolist, series(written, name)), strict=True))
