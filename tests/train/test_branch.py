"""A cooldown branched off a run is the run that would have ended there."""

import json
import shutil

import jax
import numpy as np
import pytest
from support import REPOSITORY, final_params, pretrain_config, run_command, without_timings

from distill.config import ConfigError
from distill.errors import UserError
from distill.json_files import read_json
from distill.train import metrics
from distill.train.branch import branch_config
from distill.train.workdir import Workdir
from pipelines import pretrain
from pipelines.pretrain import PretrainConfig

# One run without end, as far as anybody can tell before its last step.
ENDLESS = dict(
    train__total_steps=24,
    train__keep_every=8,
    train__keep_checkpoints=1,
    train__checkpoint_every=5,
    train__log_every=1,
)
BRANCH = dict(schedule__cooldown_steps=6, train__checkpoint_every=2, train__keep_checkpoints=3)


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    path = tmp_path_factory.mktemp("parent")
    pretrain.run(pretrain_config(**ENDLESS), Workdir(path), overview=False)
    return path


def branch(parent, workdir, step, **overrides):
    keys = {key.replace("__", "."): str(value) for key, value in overrides.items()}
    config = branch_config(PretrainConfig, f"{parent}@{step}", keys, workdir)
    return pretrain.run(config, Workdir(workdir), overview=False)


@pytest.fixture(scope="module")
def branched(parent, tmp_path_factory):
    """A branch of 6 steps with a checkpoint of every other one, and what its parent became."""
    path = tmp_path_factory.mktemp("branched")
    before = files(parent)
    branch(parent, path, 16, **BRANCH)
    assert files(parent) == before
    return path


def files(path):
    return {file: file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()}


def test_checkpoints_at_multiples_of_keep_every_are_kept(parent):
    kept = {int(path.name) for path in (parent / "checkpoints").iterdir() if path.name.isdigit()}
    assert kept == {8, 16, 24}


def test_a_branch_is_the_run_of_its_length_bit_for_bit(parent, branched, tmp_path):
    alone = tmp_path / "alone"
    summary = Workdir(branched).summary
    separate = ENDLESS | dict(train__total_steps=22, schedule__cooldown_steps=6)
    pretrain.run(pretrain_config(**separate), Workdir(alone), overview=False)
    jax.tree.map(np.testing.assert_array_equal, final_params(branched), final_params(alone))
    of_branch, of_alone = (without_timings(metrics.read(path)) for path in (branched, alone))
    assert of_branch == of_alone[16:]
    assert summary["branched_from"] == f"{parent.resolve()}@16"
    del summary["branched_from"]
    assert without_timings([summary]) == without_timings([Workdir(alone).summary])


def test_a_stopped_branch_goes_on_with_its_own_checkpoint(parent, branched, tmp_path):
    workdir = tmp_path / "branch"
    shutil.copytree(branched, workdir)
    # As a kill between a checkpoint and the end leaves it.
    (workdir / "summary.json").unlink()
    shutil.rmtree(workdir / "checkpoints" / "22")
    before = (workdir / "checkpoints" / "20").stat().st_mtime_ns
    branch(parent, workdir, 16, **BRANCH)
    assert (workdir / "checkpoints" / "20").stat().st_mtime_ns == before
    jax.tree.map(np.testing.assert_array_equal, final_params(branched), final_params(workdir))


def test_the_command_line_branches_the_newest_checkpoint_and_resumes_it(parent, tmp_path):
    command = (
        "pretrain",
        f"--branch_from={parent}",
        f"--workdir={tmp_path}",
        "--config.schedule.cooldown_steps=3",
    )
    done = run_command(*command)
    assert done.returncode == 0, done.stderr
    config = read_json(tmp_path / "config.json")
    assert config["branch_from"] == f"{parent.resolve()}@24"
    assert config["train"]["total_steps"] == 27
    # The parent may have gone on since; the branch stays where it began.
    recorded = json.dumps(config | {"branch_from": f"{parent.resolve()}@16"})
    (tmp_path / "config.json").write_text(recorded)
    again = branch_config(PretrainConfig, str(parent), {"schedule.cooldown_steps": "3"}, tmp_path)
    assert again.branch_from == f"{parent.resolve()}@16"


@pytest.mark.parametrize(
    ("origin", "overrides", "message"),
    [
        ("{parent}@17", {}, "no checkpoint of step 17; it has 8, 16, 24"),
        ("{parent}@16", {"schedule__cooldown_steps": 0}, "longer than that, not 16 steps long"),
        ("{parent}@16", {"train__total_steps": 12}, "longer than that, not 12 steps long"),
        ("{parent}@16", {"train__total_steps": 20}, "does not begin at or after step 16"),
        ("{parent}@16", {"optimizer__learning_rate": 0.1}, r"not in optimizer.learning_rate \("),
        ("{parent}@16", {"seed": 3}, r"not in seed \(0\)"),
        ("{parent}@8", {"schedule__warmup_steps": 3}, "warmup is 2 steps in the parent and 3 in a"),
        ("{parent}/nowhere@8", {}, "does not exist"),
    ],
)
def test_what_is_no_branch_is_refused(parent, tmp_path, origin, overrides, message):
    keys = {"schedule__cooldown_steps": 6} | overrides
    keys = {key.replace("__", "."): str(value) for key, value in keys.items()}
    with pytest.raises(UserError, match=message):
        config = branch_config(
            PretrainConfig, origin.format(parent=parent), keys, tmp_path / "branch"
        )
        pretrain.run(config, Workdir(tmp_path / "branch"), overview=False)
    assert not (tmp_path / "branch" / "config.json").exists()


def test_a_branch_needs_a_length(parent, tmp_path):
    with pytest.raises(UserError, match=r"--config\.schedule\.cooldown_steps=N"):
        branch_config(PretrainConfig, str(parent), {}, tmp_path)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"kind": "cosine"}, "cosine schedule depends on where the run ends"),
        ({"cooldown_steps": 12}, "in its own cooldown, begun at 12"),
    ],
)
def test_a_parent_that_cannot_be_branched_is_refused(parent, tmp_path, schedule, message):
    other = tmp_path / "parent"
    shutil.copytree(parent, other)
    config = read_json(other / "config.json")
    config["schedule"] |= schedule
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=message):
        branch(other, tmp_path / "branch", 16, schedule__cooldown_steps=5)


@pytest.mark.slow
def test_shares_of_the_parents_length_are_steps_of_its_branch(tmp_path):
    """A finished run whose warmup and cooldown are in percent is made longer."""
    epochs = dict(
        train__total_steps="none",
        train__total_epochs=0.54,
        train__batch_size=32,
        train__checkpoint_every=5,
        schedule__warmup_steps="none",
        schedule__warmup_percent=10,
        schedule__timescale_steps="none",
        schedule__timescale_percent=50,
        schedule__cooldown_steps="none",
        schedule__cooldown_percent=40,
    )
    parent, longer = tmp_path / "parent", tmp_path / "longer"
    # 20 steps of 32 of 1,197 images, of which 2 are warmup and the last 8 cooldown.
    pretrain.run(pretrain_config(**epochs), Workdir(parent), overview=False)
    keys = {"train.total_epochs": "0.81", "schedule.cooldown_percent": "20"}
    config = branch_config(PretrainConfig, str(parent), keys, longer)
    assert config.branch_from == f"{parent}@12"
    schedule = config.schedule
    assert (schedule.warmup_steps, schedule.warmup_percent) == (2, None)
    assert (schedule.timescale_steps, schedule.timescale_percent) == (10, None)
    assert pretrain.run(config, Workdir(longer), overview=False).summary["steps"] == 30
    rates = [metrics.read(path)[-1]["train/learning_rate"] for path in (parent, longer)]
    assert max(rates) < 3e-3 / 2
    # Without the record of its data, a length in epochs says nothing.
    (parent / "data.json").unlink()
    with pytest.raises(UserError, match="warmup_percent of a length in epochs"):
        branch_config(PretrainConfig, str(parent), keys, tmp_path / "other")


def test_config_and_branch_exclude_each_other(parent, tmp_path):
    both = run_command(
        "pretrain",
        f"--config={REPOSITORY / 'configs/pretrain/digits.py'}",
        f"--branch_from={parent}",
        f"--workdir={tmp_path}",
    )
    assert both.returncode == 2
    assert "give one of --config=FILE and --branch_from" in both.stderr
