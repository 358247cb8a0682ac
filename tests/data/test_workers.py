"""Worker processes give what threads give, and end when nobody needs them."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import wait_for

from distill.data import DataConfig, EvalLoader, TrainLoader, open_source

pytestmark = pytest.mark.slow

# Worker processes are started anew from the main module, so it must be a file and not pytest.
WORKERS = """
import hashlib, json

from absl import flags

from distill.data import DataConfig, EvalLoader, TrainLoader, ViewConfig, open_source

keep = lambda batch: batch


def facts(batch):
    digest = hashlib.sha256(batch["image"].tobytes()).hexdigest()
    return [batch["index"].tolist(), batch["mask"].tolist(), digest]


def train(steps, next_example=0):
    loader = TrainLoader(
        open_source("digits", "validation", channels=1), DataConfig(workers=2),
        size=8, batch_size=48, seed=0, put=keep, next_example=next_example)
    found = [facts(next(loader)) for _ in range(steps)]
    loader.close()
    return found


def evaluate():
    loader = EvalLoader(
        open_source("digits", "validation", channels=1), DataConfig(workers=2),
        size=8, batch_size=80, put=keep)
    return [facts(batch) for batch in loader]


if __name__ == "__main__":
    found = {"train": train(7)}
    flags.FLAGS.mark_as_parsed()  # As distill.command.launch does.
    found |= {"resumed": train(3, 3 * 48), "eval": evaluate()}
    print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def with_workers(tmp_path_factory):
    script = tmp_path_factory.mktemp("workers") / "read.py"
    script.write_text(WORKERS)
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def facts(batch):
    digest = hashlib.sha256(batch["image"].tobytes()).hexdigest()
    return [batch["index"].tolist(), batch["mask"].tolist(), digest]


@pytest.fixture(scope="module")
def with_threads():
    source = open_source("digits", "validation", channels=1)
    data = TrainLoader(source, DataConfig(), size=8, batch_size=48, seed=0, put=lambda batch: batch)
    with contextlib.closing(data):
        train = [facts(next(data)) for _ in range(7)]
    data = EvalLoader(source, DataConfig(), size=8, batch_size=80, put=lambda batch: batch)
    return {"train": train, "eval": [facts(batch) for batch in data]}


def test_worker_processes_give_the_batches_threads_give(with_workers, with_threads):
    """They need no parsed command line."""
    assert with_workers["train"] == with_threads["train"]


def test_restart_with_worker_processes_continues_bit_exactly(with_workers):
    """Of a command, too, which parses its command line."""
    assert with_workers["resumed"] == with_workers["train"][3:6]


def test_worker_processes_give_every_image_once_an_epoch(with_workers):
    epoch = [index for batch in with_workers["train"][:5] for index in batch[0]]
    assert sorted(epoch) == list(range(240))


def test_evaluation_with_worker_processes_has_whole_batches_in_order(with_workers, with_threads):
    assert [len(batch[0]) for batch in with_workers["eval"]] == [80, 80, 80]
    assert with_workers["eval"] == with_threads["eval"]


# Reads a line, does what it says and says that it is done.
COMMANDED = """
import multiprocessing, sys

from distill.data import DataConfig, EvalLoader, TrainLoader, open_source

if __name__ == "__main__":
    how = DataConfig(workers=2), dict(size=8, batch_size=48, put=lambda batch: batch)
    images = open_source("digits", "validation", channels=1)
    loader = TrainLoader(images, how[0], seed=0, **how[1])
    for line in sys.stdin:
        if line.strip() == "close":
            for _ in EvalLoader(images, how[0], **how[1]):
                pass
            loader.close()
        else:
            [next(loader) for _ in range(20)]
        print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)
"""


@pytest.fixture
def commanded(tmp_path):
    """Has a process with workers do something; returns its workers' process ids."""
    script = tmp_path / "read.py"
    script.write_text(COMMANDED)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def tell(what):
        process.stdin.write(f"{what}\n")
        process.stdin.flush()
        return list(map(int, process.stdout.readline().split()))

    tell.process = process
    with process:
        yield tell
        process.kill()


def alive(number: int) -> bool:
    # What has ended and was not waited for is a zombie.
    status = Path(f"/proc/{number}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes")
def test_workers_work_until_their_parent_closes_the_loader(commanded):
    workers = commanded("read")
    assert len(workers) == 2
    for worker in workers:
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(worker, number)
    assert commanded("read") == workers
    assert commanded("close") == []
    commanded.process.stdin.close()
    assert commanded.process.wait(30) == 0
    # Neither memory nor semaphores are left for Python's resource tracker to complain of.
    assert commanded.process.stderr.read() == ""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes")
def test_workers_end_when_their_parent_is_killed(commanded):
    workers = commanded("read")
    assert all(map(alive, workers))
    commanded.process.kill()
    wait_for(lambda: not any(map(alive, workers)))
