"""What stops a run, and what it leaves."""

import os
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pages import Page
from support import pretrain_config

from distill.errors import UserError
from distill.optim import RunLength
from distill.runs import classifiers
from distill.tasks.classification import Classification
from distill.train import fit, metrics
from distill.train.config import TrainConfig
from distill.train.loop import NonFinite, Stopped
from distill.train.run import open_mesh
from distill.train.workdir import Workdir
from pipelines import pretrain


class Exploding(Classification):
    """Classification whose loss, or gradient alone, is not a number from a given image on."""

    spoil = staticmethod(lambda loss, bad: jnp.where(bad, jnp.nan, loss))

    def prepare(self, frozen, batch, key):
        return super().prepare(frozen, batch, key), batch["index"]

    def loss(self, params, prepared):
        prepared, index = prepared
        loss, aux = super().loss(params, prepared)
        count = params["classifier"]["bias"].sum() * 0 + jnp.max(index)
        return self.spoil(loss, count >= 0), aux


class ExplodingGradient(Exploding):
    """√0 is finite; its gradient is not."""

    spoil = staticmethod(lambda loss, bad: loss + jnp.sqrt(jnp.where(bad, loss - loss, 1.0)))


def test_a_non_finite_step_stops_the_run_and_saves_nothing(tmp_path, monkeypatch):
    # The run does five good steps and a checkpoint first, then goes on with a task that explodes.
    good = pretrain_config()
    monkeypatch.setattr(fit.Loop, "run", stopping_after(7, fit.Loop.run))
    with pytest.raises(KeyboardInterrupt):
        pretrain.run(good, Workdir(tmp_path), overview=False)
    monkeypatch.undo()
    for task in (Exploding, ExplodingGradient):
        monkeypatch.setattr(classifiers, "Classification", task)
        with pytest.raises(NonFinite, match="at step 6; the checkpoint of step 5 stands") as caught:
            pretrain.run(good, Workdir(tmp_path), overview=False)
        assert caught.value.exit_code != 0
        assert [n for n in os.listdir(tmp_path / "checkpoints") if n.isdigit()] == ["5"]
        assert not (tmp_path / "summary.json").exists()
    # What was wrong is mended: the run goes on from step 5 and completes.
    monkeypatch.undo()
    trained = pretrain.run(good, Workdir(tmp_path), overview=False)
    assert trained.summary["steps"] == 10


@pytest.mark.parametrize(
    ("owner", "called"),
    [("progress.Progress", "tick"), ("loop.Loop", "_record")],
    ids=["in the last step", "while it is recorded"],
)
def test_a_signal_at_the_last_step_stops_what_would_follow(owner, called, tmp_path, monkeypatch):
    from distill.train import loop, progress

    module, _, cls = owner.partition(".")
    place = getattr({"loop": loop, "progress": progress}[module], cls)
    whole = getattr(place, called)

    def interrupted(self, number, *args, **more):
        if number == 10:
            os.kill(os.getpid(), signal.SIGINT)
        return whole(self, number, *args, **more)

    monkeypatch.setattr(place, called, interrupted)
    config = pretrain_config()
    with pytest.raises(Stopped, match="SIGINT after step 10 of 10; everything is saved"):
        pretrain.run(config, Workdir(tmp_path), overview=False)
    assert "10" in os.listdir(tmp_path / "checkpoints")
    assert not (tmp_path / "summary.json").exists()
    monkeypatch.undo()
    assert pretrain.run(config, Workdir(tmp_path), overview=False).summary["steps"] == 10
    assert [row["step"] for row in metrics.read(tmp_path)][-1] == 10


def stopping_after(step, run):
    """`Loop.run`, cut short from outside after `step` steps."""

    def cut(self, states, frozen=None):
        make = self.compile

        def compile(*args):
            compiled, count = make(*args), 0

            def counted(*args):
                nonlocal count
                count += 1
                if count > step:
                    raise KeyboardInterrupt
                return compiled(*args)

            return counted

        self.compile = compile
        return run(self, states, frozen)

    return cut


def test_metrics_hold_one_object_per_step_with_the_agreed_names(teacher_workdir):
    rows = metrics.read(teacher_workdir)
    steps = [row["step"] for row in rows]
    assert steps == sorted(set(steps)) == [1, 2, 4, 6, 8, 10]
    wanted = {"train/loss", "train/accuracy", "train/grad_norm", "train/images_per_second"}
    assert all(wanted <= row.keys() for row in rows)
    # Of the step that was just done: warmup over 2 steps, then rsqrt.
    rates = [row["train/learning_rate"] for row in rows]
    timescale = pretrain_config().schedule.timescale(RunLength(10))
    done = np.array([row["step"] for row in rows]) - 1
    expected = 3e-3 * np.minimum(done / 2, 1) / np.sqrt(1 + np.maximum(done - 2, 0) / timescale)
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
    assert {"val/accuracy", "val/top5_accuracy", "val/cross_entropy"} <= rows[-1].keys()
    assert 0 <= rows[-1]["train/data_wait"] <= 1


def test_workdir_holds_what_the_design_promises(teacher_workdir):
    names = set(os.listdir(teacher_workdir))
    promised = {"config.json", "checkpoints", "metrics.jsonl", "summary.json", "report.html"}
    assert promised <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    page = (teacher_workdir / "report.html").read_text()
    # Whatever else other tests evaluated of the run stands below, and is listed in the contents.
    body = page.rpartition("</nav>")[2]
    assert body.split("Evaluated:")[0].count('<figure class="chart"') >= 2
    Page(page)


def test_the_step_donates_its_state(teacher_workdir):
    from distill.optim import make_optimizer, make_schedule
    from distill.train.state import init_state
    from distill.train.step import Learner, make_train_step

    config = pretrain_config()
    mesh = open_mesh(config)
    network = config.model.network().placed(mesh)
    optimizer = make_optimizer(
        config.optimizer, make_schedule(config.schedule, 10), network.abstract_params, network.axes
    )
    state = init_state(network, optimizer, 0)
    step = make_train_step(Learner(Classification(network, config.loss), optimizer), 0)
    batch = {
        "image": np.zeros((32, 8, 8, 1), np.uint8),
        "label": np.zeros(32, np.int32),
        "index": np.arange(32),
        "mask": np.ones(32, bool),
    }
    kernel = state.params["encoder"]["blocks"]["mlp_in"]["kernel"]
    new, metrics_ = step(state, None, batch)
    assert kernel.is_deleted()
    assert int(new.step) == 1
    assert jnp.isfinite(metrics_["loss"])
    assert jax.tree.structure(new) == jax.tree.structure(state)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (dict(train__batch_size=2000), "larger than the data"),
        (dict(model__num_classes=7), "config.model has 7 classes, but the data has 10"),
        (dict(mesh__tensor=3), "config.mesh"),
        (dict(schedule__warmup_steps=50), "longer than the run"),
        (dict(optimizer__weight_decay='(("kernle", 0.1),)'), "matches no parameter"),
        (dict(data__source="folder:/nowhere/at/all"), "does not exist"),
        (dict(data__train_split="trian"), "no split 'trian'"),
    ],
)
def test_impossible_runs_are_refused_before_anything_is_written(tmp_path, overrides, message):
    with pytest.raises(UserError, match=message):
        pretrain.run(pretrain_config(**overrides), Workdir(tmp_path), overview=False)
    assert not (tmp_path / "checkpoints").exists() or not list((tmp_path / "checkpoints").iterdir())


def test_another_config_in_the_same_workdir_is_refused(teacher_workdir: Path):
    with pytest.raises(
        UserError, match=r"config\.optimizer\.learning_rate: 0\.003 there, 0\.1 now"
    ):
        config = pretrain_config(optimizer__learning_rate=0.1)
        pretrain.run(config, Workdir(teacher_workdir), overview=False)


@pytest.mark.parametrize(
    ("steps", "given", "intervals"),
    [
        (1, {}, (1, 1, 1)),
        (40, {}, (1, 2, 2)),
        (1000, {}, (20, 50, 50)),
        (1_000_000, {}, (100, 5000, 5000)),
        (1000, {"log_every": 7, "eval_every": 300, "checkpoint_every": 400}, (7, 300, 400)),
        (1000, {"eval_every": 300}, (20, 300, 50)),
    ],
)
def test_intervals_that_are_not_given_suit_the_run(steps, given, intervals):
    assert TrainConfig(total_steps=steps, **given).intervals(steps) == intervals
