"""Whole runs in buckets, by the stores' own protocols."""

import http
import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from buckets import emulators
from support import (
    REPOSITORY,
    arguments,
    final_params,
    pretrain_config,
    run_command,
    without_timings,
)

from distill.buckets import Bucket, bucket, fetched, mirror, owner
from distill.buckets.copies import WHOLE
from distill.train import metrics
from distill.train.workdir import Workdir
from pipelines import pretrain

pytestmark = pytest.mark.slow

# Sends often, and waits after step 8 until it is killed.
WAITING = """
import sys, time
from distill.buckets import mirror
from distill.command.launch import launch_training
from distill.train.loop import Loop
from pipelines import pretrain
mirror.EVERY, record = 0.1, Loop._record
def wait(self, number, *rest):
    record(self, number, *rest)
    if number == 8:
        time.sleep(600)
Loop._record = wait
launch_training("", pretrain.PretrainConfig, pretrain.run, sys.argv[1:])
"""


@pytest.fixture(scope="module", params=["s3", "gs"])
def store(request):
    """Where a bucket is, and the weather there."""
    with emulators.store(request.param) as opened:
        yield opened


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    path = tmp_path_factory.mktemp("uninterrupted")
    pretrain.run(pretrain_config(), Workdir(path), overview=False)
    return path


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Goes on on a machine of this name, which has no copies at first."""

    def move(name):
        monkeypatch.setenv("DISTILL_STAGING", str(tmp_path / name))
        fetched.cache_clear()

    move("first")
    return move


def train(url: str) -> subprocess.CompletedProcess:
    return run_command("pretrain", *arguments("pretrain/digits.py", url))


def killed_after_a_checkpoint(url: str) -> None:
    command = ["-c", WAITING, *arguments("pretrain/digits.py", url)]
    process = subprocess.Popen([sys.executable, *command], cwd=REPOSITORY)
    deadline = time.monotonic() + 200
    while b"checkpoints/5" not in (Bucket(url).read(WHOLE) or b""):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()


def assert_same_run(workdir, expected) -> None:
    rows = (without_timings(metrics.read(one)) for one in (workdir, expected))
    assert next(rows) == next(rows)
    jax.tree.map(np.testing.assert_array_equal, final_params(workdir), final_params(expected))


# A long test for each kind of store; what tells them apart, the short ones see.
@pytest.mark.parametrize("store", ["gs"], indirect=True)
def test_a_run_killed_in_bad_weather_ends_elsewhere_as_one_that_was_not(
    store, machine, uninterrupted
):
    url = f"{store.url}/killed"
    store.weather.every, store.weather.failed = 10, 0
    killed_after_a_checkpoint(url)
    machine("second")
    done = train(url)
    assert done.returncode == 0, done.stderr
    assert "resuming after step 5" in done.stderr
    machine("third")
    assert store.weather.failed > 5
    assert_same_run(fetched(url), uninterrupted)
    done = run_command("evaluate", f"--workdir={url}")
    assert done.returncode == 0, done.stderr
    line = json.loads(Bucket(url).read("evaluations.jsonl") or b"")
    assert line["model"] == url and "test/accuracy" in line["metrics"]
    assert f"{url} is shown" in done.stderr
    store.weather.every = None


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_a_bucket_that_goes_away_ends_the_run_which_goes_on_when_it_is_back(
    store, machine, uninterrupted, monkeypatch
):
    url = f"{store.url}/away"
    monkeypatch.setattr(mirror, "EVERY", 0.05)
    monkeypatch.setitem(bucket.RETRIES, "max_retries", 2)
    record = pretrain.fit_one.__globals__["Loop"]._record

    def storm(self, number, *rest):
        record(self, number, *rest)
        if number == 6:
            store.weather.every = 1
            # Until the run is asked to stop.
            deadline = time.monotonic() + 60
            while signal.getsignal(signal.SIGTERM).__name__ == "_note":
                assert time.monotonic() < deadline
                (copy / "train.log").touch()
                time.sleep(0.01)

    copy = mirror.Copy(url).directory
    with monkeypatch.context() as patch:
        patch.setattr(pretrain.fit_one.__globals__["Loop"], "_record", storm)
        done = train(url)
    assert done.returncode == 1, done.stderr
    assert f"{url}/" in done.stderr and f"Everything is kept in {copy}" in done.stderr
    store.weather.every = None
    # As that of a process that has ended.
    Bucket(url).delete(owner.OWNER)
    done = train(url)
    assert done.returncode == 0, done.stderr
    assert "resuming after step" in done.stderr
    machine("second")
    assert_same_run(fetched(url), uninterrupted)


def test_a_bucket_that_is_not_there_or_not_ours_is_said_at_the_start(store, machine):
    done = train(f"{store.url}-of-nobody/run")
    assert done.returncode == 2
    assert f"Check that there is a bucket '{emulators.BUCKET}-of-nobody'" in done.stderr
    store.weather.every, store.weather.status = 1, http.HTTPStatus.FORBIDDEN
    done = train(f"{store.url}/run")
    store.weather.every, store.weather.status = None, http.HTTPStatus.SERVICE_UNAVAILABLE
    assert done.returncode == 2
    assert "Check the credentials" in done.stderr


def test_objects_are_read_written_and_deleted(store):
    objects = Bucket(f"{store.url}/some")
    content = {f"a/{number}": os.urandom(number) for number in range(12)}
    for name, one in content.items():
        objects.write(name, one)
    assert objects.names() == sorted(content)
    assert dict(objects.read_all(list(content))) == content
    objects.delete("a/3")
    objects.delete("a/3")
    assert objects.read("a/3") is None
    assert Bucket(f"{store.url}/other").names() == []
