"""Sizes × durations: which runs a study makes, what it concludes, and how it goes on."""

import json
import os

import pytest
from support import REPOSITORY, run_command

from distill.config import ConfigError, load_file, resolve, to_dict
from distill.errors import UserError
from distill.json_files import read_json
from distill.laws.law import ScalingLaw
from distill.train.loop import Stopped
from distill.train.trainee import Trained
from distill.train.workdir import Workdir
from pipelines import scaling_study
from pipelines.scaling_study import StudyConfig

FILE = REPOSITORY / "configs/scaling/digits.py"
# In FLOPs.
LAW = ScalingLaw(a=3e3, b=0.4, c=0.03, d=1e8)


def study(**overrides: object) -> StudyConfig:
    keys = {"resamples": 100} | {k.replace("__", "."): v for k, v in overrides.items()}
    return resolve(StudyConfig, load_file(str(FILE)), {k: str(v) for k, v in keys.items()})


def size(name: str, width: int) -> tuple:
    keys = (("model.width", width), ("model.mlp_dim", 2 * width), ("model.heads", 2))
    return (name, keys)


def flops_per_image(model) -> int:
    """Of training, by hand: 16 tokens of 2×2 pixels, products and attention, times three."""
    attention = 4 * model.width**2 * 2 * 16 + 2 * 2 * 16 * 16 * model.width
    mlp = 2 * model.width * model.mlp_dim * 2 * 16
    return 3 * model.depth * (attention + mlp)


@pytest.fixture
def runs(monkeypatch):
    """Replaces training by models that follow a law; returns the configs that were run."""
    done = []

    def train(config, workdir, name):
        workdir.claim(to_dict(config))
        done.append((str(workdir.path), config))
        flops = flops_per_image(config.model) * config.train.total_steps * config.train.batch_size
        error = float(LAW.predict(flops))
        scores = {"accuracy": 1 - error, "cross_entropy": 5 * error}
        both = {f"{split}/{key}": v for key, v in scores.items() for split in ("val", "test")}
        return Trained(None, {"parameters": config.model.width} | both)

    monkeypatch.setattr(scaling_study.pretrain, "run", train)
    return done


def test_each_size_is_one_trunk_and_a_cooldown_for_each_duration(runs, tmp_path):
    config = study(
        sizes=(size("s", 8), size("m", 16)),
        durations=(400, 100),
        base__train__total_steps=400,
        base__schedule__cooldown_percent=20,
    )
    scaling_study.run(config, Workdir(tmp_path))
    assert [path for path, _ in runs] == [
        str(tmp_path / name / run) for name in ("s", "m") for run in ("trunk", "100", "400")
    ]
    for (trunk, parent), *branches in (runs[:3], runs[3:]):
        assert (parent.train.total_steps, parent.train.keep_every) == (320, 80)
        assert parent.schedule.cooldown_percent is parent.schedule.cooldown_steps is None
        for (_, branch), total in zip(branches, (100, 400), strict=True):
            assert branch.train.total_steps == total
            assert branch.schedule.cooldown_steps == total // 5
            assert branch.branch_from == f"{trunk}@{total * 4 // 5}"
            assert branch.model == parent.model and branch.optimizer == parent.optimizer


def test_the_law_that_models_follow_is_found(runs, tmp_path, capsys):
    summary = scaling_study.run(study(), Workdir(tmp_path))
    written = read_json(tmp_path / "summary.json")
    assert written == json.loads(json.dumps(summary))
    finished = [config for path, config in runs if not path.endswith("trunk")]
    models = summary["models"]
    assert len(models) == len(finished) == 24
    for model, config in zip(models, finished, strict=True):
        images = config.train.total_steps * 64
        assert (model["steps"], model["images"]) == (config.train.total_steps, images)
        assert model["flops"] == flops_per_image(config.model) * images
        assert model["parameters"] == config.model.width
    spent = sum(
        flops_per_image(config.model) * 64 * (config.train.total_steps if trunk else cooldown)
        for path, config in runs
        for trunk, cooldown in [(path.endswith("trunk"), config.schedule.cooldown_steps)]
    )
    apart = sum(model["flops"] for model in models)
    assert summary["flops"] == pytest.approx({"spent": spent, "apart": apart})

    for measure, scale in {"error": 1, "cross_entropy": 5}.items():
        found = summary["laws"][measure]
        assert found["law"]["b"] == pytest.approx(LAW.b, rel=1e-3)
        assert found["law"]["c"] == pytest.approx(scale * LAW.c, rel=1e-3)
        assert found["points"] == sum(measure in model["frontier_of"] for model in models)
    printed = capsys.readouterr().out
    assert "training FLOPs" in printed and f"{LAW.b:.3g}" in printed
    assert str(tmp_path / "report.html") in printed


def test_a_size_can_be_added_but_durations_are_fixed(runs, tmp_path):
    short = dict(durations=(100, 200), base__train__total_steps=200)
    scaling_study.run(study(sizes=(size("s", 8),), **short), Workdir(tmp_path))
    both = (size("s", 8), size("m", 16))
    summary = scaling_study.run(study(sizes=both, **short), Workdir(tmp_path))
    assert [model["size"] for model in summary["models"]] == ["s", "s", "m", "m"]
    with pytest.raises(UserError, match="durations"):
        scaling_study.run(study(sizes=both, **short | {"durations": (150, 200)}), Workdir(tmp_path))


@pytest.mark.slow
def test_a_stopped_study_goes_on_where_it_was(tmp_path, monkeypatch):
    config = study(
        sizes=(size("s", 8),),
        durations=(8, 16),
        base__train__total_steps=16,
        base__model__depth=1,
        base__train__batch_size=32,
        base__schedule__warmup_steps=2,
    )
    train, calls = scaling_study.pretrain.run, []

    def stopped_at_the_third(*arguments, **options):
        calls.append(arguments[1].path.name)
        if len(calls) == 3:
            raise Stopped("stopped by SIGTERM")
        return train(*arguments, **options)

    monkeypatch.setattr(scaling_study.pretrain, "run", stopped_at_the_third)
    with pytest.raises(Stopped):
        scaling_study.run(config, Workdir(tmp_path))
    assert calls == ["trunk", "8", "16"]
    assert not (tmp_path / "summary.json").exists()
    done = [tmp_path / "s" / run / "metrics.jsonl" for run in ("trunk", "8")]
    before = [file.stat().st_mtime_ns for file in done]

    summary = scaling_study.run(config, Workdir(tmp_path))
    assert [file.stat().st_mtime_ns for file in done] == before
    assert [(model["steps"], model["images"]) for model in summary["models"]] == [
        (8, 256),
        (16, 512),
    ]
    for model in summary["models"]:
        run = read_json(tmp_path / "s" / str(model["steps"]) / "summary.json")
        right = 240 * run["val/accuracy"] + 360 * run["test/accuracy"]
        assert model["errors"]["error"] == pytest.approx(1 - right / 600)
        assert run["branched_from"].endswith(f"s/trunk@{model['steps'] * 3 // 4}")
    assert "different values of compute are too few" in summary["laws"]["error"]["problem"]
    assert "too few" in (tmp_path / "report.html").read_text()


SHORT = dict(durations=(100, 200), base__train__total_steps=200)
BAD = {
    "an unknown key": (dict(duration=(1, 2)), "did you mean config.durations"),
    "an unknown key of the base": (
        dict(base__model__wdth=8),
        "did you mean config.base.model.width",
    ),
    "no sizes": (dict(sizes=()), "sizes must be one or more"),
    "a size twice": (dict(sizes=(size("s", 8), size("s", 16))), "with different names"),
    "a size that is no name": (dict(sizes=(size("a/b", 8),)), "'a/b' cannot name a directory"),
    "an unknown key of a size": (
        dict(sizes=(("s", (("model.wdth", 8),)),)),
        "size s: .*did you mean config.model.width",
    ),
    "an impossible size": (
        dict(sizes=(("s", (("model.heads", 3),)),)),
        "size s: config.model: .*32.*heads",
    ),
    "a size that changes the data": (
        dict(sizes=(("s", (("data.source", "x"),)),)),
        "size s may change model",
    ),
    "a key changed twice": (
        dict(sizes=(("s", (("model.width", 8), ("model.width", 16))),)),
        "size s changes a key twice",
    ),
    "other lengths": (dict(durations=(100, 200)), "total_steps is 3200, but .* 200"),
    "a duration twice": (dict(durations=(3200, 3200)), "one or more different"),
    "a schedule with an end": (dict(base__schedule__kind="cosine"), "only rsqrt and constant"),
    "a warmup for each length": (
        dict(base__schedule__warmup_steps="none", base__schedule__warmup_percent=5),
        "give warmup_steps",
    ),
    "a branch": (dict(base__branch_from="there@1"), "branch_from must be none"),
    "nothing to read errors of": (
        dict(base__evals__val="none"),
        "config.base.evals.val is what a study reads val/accuracy",
    ),
    "too few resamples": (dict(resamples=10), "resamples is 10; expected whole number from 100 to"),
    "a cooldown in warmup": (SHORT | dict(base__schedule__warmup_steps=75), "begins at step 75"),
    "no cooldown": (SHORT | dict(base__schedule__cooldown_percent=0), "begins at step 100"),
    "hundreds of checkpoints": (
        SHORT | dict(durations=(101, 200)),
        "76, 150, which takes 75 checkpoints",
    ),
    "nothing to measure on": (
        SHORT | dict(base__data__validation_split="none", base__data__test_split="none"),
        "neither a validation nor a test split",
    ),
    "too large a batch": (SHORT | dict(base__train__batch_size=2000), "size 8x2: .*1197 images"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_studied_is_refused_before_anything_runs(what, runs, tmp_path):
    overrides, message = BAD[what]
    with pytest.raises(ConfigError, match=message):
        scaling_study.run(study(**overrides), Workdir(tmp_path))
    assert runs == [] and not (tmp_path / "config.json").exists()


def test_the_command_refuses_what_is_wrong_without_traceback(tmp_path):
    command = ("scaling_study", f"--config={FILE}", f"--workdir={tmp_path}")
    done = run_command(*command, "--config.duratoins=(1,)", "--config.base.train.batch_size=0")
    assert done.returncode == 2
    assert "2 problems in the config" in done.stderr
    assert os.listdir(tmp_path) == []
