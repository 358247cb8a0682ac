"""The best weights of a run: at most one, whole, and the same whatever happens on the way."""

import contextlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import REPOSITORY

from distill.errors import Damaged
from distill.train.best import Best, less_is_better
from distill.train.checkpoints import Checkpoints


def weights(value):
    return {"head": {"kernel": jnp.full((4, 3), value)}, "bias": jnp.full((3,), -value)}


def offer(workdir, *offers, metric="val/accuracy"):
    """Offers (step, value) pairs, opening and closing the best; returns which were taken."""
    with contextlib.closing(Best(workdir, metric)) as best:
        return [best.offer(step, value, weights(float(step))) for step, value in offers]


def restore(workdir, step, like):
    """The weights of the only step there is."""
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), like
    )
    with contextlib.closing(Checkpoints(workdir, folder="best", read_only=True)) as checkpoints:
        assert checkpoints.steps == [step]
        return checkpoints.restore_params(abstract, step)


def kept(workdir):
    """The step that is kept; what is kept must be the weights offered at it."""
    (step,) = [int(path.name) for path in (workdir / "best").iterdir() if path.name.isdigit()]
    found = restore(workdir, step, weights(0.0))
    jax.tree.map(np.testing.assert_array_equal, found, weights(float(step)))
    return step


@pytest.mark.parametrize(
    "metric, best",
    [("val/accuracy", 20), ("val/agreement", 20), ("val/kl", 30), ("val/calibration_error", 30)],
)
def test_the_best_by_its_metric_is_kept(tmp_path, metric, best):
    offers = [(10, 0.5), (20, 0.7), (30, 0.4), (40, 0.6)]
    taken = offer(tmp_path, *offers, metric=metric)
    assert taken == ([True, True, False, False] if best == 20 else [True, False, True, False])
    assert kept(tmp_path) == best


@pytest.mark.parametrize("metric", ["train/loss", "val/kl", "val/cross_entropy", "a/top5_error"])
def test_less_of_what_is_wrong_is_better(metric):
    assert less_is_better(metric)
    assert not any(map(less_is_better, ("val/accuracy", "fewshot/10", "knn/20", "val/cka")))


def test_projections_are_not_handed_on(tmp_path):
    best = Best(tmp_path, "val/accuracy", training_only=("projections",))
    with contextlib.closing(best):
        best.offer(1, 0.5, weights(1.0) | {"projections": {"embedding": jnp.ones((2, 2))}})
    assert kept(tmp_path) == 1


def test_the_first_among_equals_stays(tmp_path):
    assert offer(tmp_path, (1, 0.5), (2, 0.5)) == [True, False]
    assert kept(tmp_path) == 1


@pytest.mark.parametrize("metric", ["val/accuracy", "val/kl"])
def test_values_that_are_not_finite_are_never_best(tmp_path, metric):
    values = (math.nan, math.inf, -math.inf)
    assert offer(tmp_path, *enumerate(values), metric=metric) == [False] * 3
    assert offer(tmp_path, (5, 0.1), *enumerate(values, 6), metric=metric)[0]
    assert kept(tmp_path) == 5


def test_the_best_so_far_is_read_back(tmp_path):
    offer(tmp_path, (10, 0.1 + 0.2))
    with contextlib.closing(Best(tmp_path, "val/accuracy")) as best:
        assert (best.step, best.value) == (10, 0.1 + 0.2)
    assert offer(tmp_path, (20, 0.3), (30, 0.1 + 0.2), (40, 0.31)) == [False, False, True]
    assert kept(tmp_path) == 40


def test_value_and_step_can_be_read_by_other_programs(tmp_path):
    offer(tmp_path, (10, 0.25))
    content = json.loads((tmp_path / "best" / "10" / "metrics" / "metrics").read_text())
    assert re.fullmatch("crc32:[0-9a-f]{8}", content.pop("checksum"))
    assert content == {"metric": "val/accuracy", "value": 0.25}


def test_a_run_that_does_its_last_steps_again_ends_with_the_same_best(tmp_path):
    """Killed after step 50 and resumed from a checkpoint of step 15."""
    steps = [(10, 0.2), (20, 0.4), (30, 0.3), (40, 0.6), (50, 0.5)]
    once, twice = tmp_path / "once", tmp_path / "twice"
    offer(once, *steps, (60, 0.55))
    offer(twice, *steps)
    assert not any(offer(twice, *steps[1:], (60, 0.55)))
    assert kept(once) == kept(twice) == 40


def test_a_run_that_goes_on_in_another_way_may_find_an_earlier_best(tmp_path):
    offer(tmp_path, (10, 0.2), (40, 0.6))
    # A step done again is not written again for the sake of a last bit.
    assert offer(tmp_path, (25, 0.5), (40, 0.6 + 1e-9)) == [False, False]
    assert offer(tmp_path, (25, 0.7), (40, 0.65)) == [True, False]
    assert kept(tmp_path) == 25


def test_the_best_by_another_metric_does_not_count(tmp_path):
    offer(tmp_path, (10, 0.9))
    assert offer(tmp_path, (20, 0.5), metric="val/agreement") == [True]
    assert kept(tmp_path) == 20


def test_a_kill_before_the_old_best_is_deleted_leaves_the_new_one(tmp_path):
    offer(tmp_path, (10, 0.5))
    shutil.copytree(tmp_path / "best" / "10", tmp_path / "aside")
    offer(tmp_path, (20, 0.6))
    (tmp_path / "aside").rename(tmp_path / "best" / "10")
    assert offer(tmp_path, (30, 0.55)) == [False]
    assert kept(tmp_path) == 20


KILLED = """
import sys, jax.numpy as jnp
from pathlib import Path
from distill.errors import Damaged
from distill.train.best import Best
best = Best(Path(sys.argv[1]), "val/accuracy")
for step in range(1, 10_000):
    best.offer(step, step / 10_000, {"kernel": jnp.full((256, 1024), float(step))})
"""


@pytest.mark.slow
def test_a_killed_run_leaves_a_whole_best_or_none(tmp_path):
    folder = tmp_path / "best"
    folder.mkdir()
    for writes in range(1, 5):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)], cwd=REPOSITORY, stderr=subprocess.PIPE
        )
        deadline, seen = time.monotonic() + 120, set()
        while len(seen) < writes:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            seen |= {name for name in os.listdir(folder) if "tmp" in name}
        process.kill()
        process.wait()
        with contextlib.closing(Best(tmp_path, "val/accuracy")) as best:
            step = best.step
        steps = [path.name for path in folder.iterdir() if path.name.isdigit()]
        assert steps == ([] if step is None else [str(step)])
        if step is not None:
            found = restore(tmp_path, step, {"kernel": jnp.zeros((256, 1024))})
            assert np.all(np.asarray(found["kernel"]) == step)
    offer(tmp_path, (10_000, 1.0))
    # Nothing half-written is left behind.
    assert [path.name for path in folder.iterdir()] == ["10000"]


def begun(directory):
    """What a killed run leaves of a checkpoint that it was writing."""
    item = directory / "7.orbax-checkpoint-tmp" / "params.orbax-checkpoint-tmp"
    item.mkdir(parents=True)
    (item / "manifest.ocdbt").write_bytes(b"half")
    return directory / "7.orbax-checkpoint-tmp"


def test_what_a_kill_left_half_written_is_gone_before_anything_is_opened(tmp_path, monkeypatch):
    """Not in a thread that a run which saves nothing does not wait for."""
    import orbax.checkpoint as ocp

    left = [begun(tmp_path / folder) for folder in ("best", "checkpoints")]
    read_only = Checkpoints(tmp_path, read_only=True)
    read_only.close()
    assert all(one.is_dir() for one in left)

    opened = []

    def manager(directory, **options):
        opened.append([one.name for one in directory.glob("*")])
        assert not options["options"].cleanup_tmp_directories
        return original(directory, **options)

    original = ocp.CheckpointManager
    monkeypatch.setattr(ocp, "CheckpointManager", manager)
    Best(tmp_path, "val/accuracy").close()
    Checkpoints(tmp_path).close()
    assert opened == [[], []] and not any(one.exists() for one in left)


@pytest.mark.parametrize("gone", ["params/_sharding", "metrics", "params", "_CHECKPOINT_METADATA"])
@pytest.mark.parametrize("earlier, later", [(10, 20), (20, 10)])
def test_what_a_kill_left_half_deleted_is_in_nobodys_way(tmp_path, gone, earlier, later):
    """A run that goes on in another way may do better at an earlier step."""
    offer(tmp_path, (earlier, 0.5))
    shutil.copytree(tmp_path / "best", tmp_path / "before")
    offer(tmp_path, (later, 0.7))
    half = shutil.move(tmp_path / "before" / str(earlier), tmp_path / "best" / str(earlier))
    path = half / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with contextlib.closing(Best(tmp_path, "val/accuracy")) as best:
        assert (best.step, best.value) == (later, 0.7)
    assert kept(tmp_path) == later and not half.exists()


def test_the_weights_that_were_written_last_must_be_sound(tmp_path):
    offer(tmp_path, (10, 0.5))
    shutil.copytree(tmp_path / "best", tmp_path / "before")
    offer(tmp_path, (20, 0.7))
    shutil.move(tmp_path / "before" / "10", tmp_path / "best" / "10")
    (tmp_path / "best" / "20" / "params" / "_sharding").unlink()
    with pytest.raises(Damaged, match=r"best weights, of step 20 .*_sharding is gone"):
        Best(tmp_path, "val/accuracy")
    assert (tmp_path / "best" / "10").is_dir()
