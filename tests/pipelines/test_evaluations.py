"""Evaluations by config: while a run trains and of a finished one, by the same words."""

import dataclasses
import json
from typing import Literal

import numpy as np
import pytest
from PIL import Image
from support import pretrain_config, run_command

from distill.config import ConfigError, resolve
from distill.data import open_source
from distill.errors import UserError
from distill.evaluate.evaluation import EvaluationConfig
from distill.evaluate.split import SplitConfig
from distill.evaluate.transfer import TransferConfig
from distill.runs.evaluated import FILE
from distill.train import metrics
from distill.train.workdir import Workdir, read_config
from pipelines import evaluate, pretrain
from pipelines.pretrain import PretrainConfig

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Forty digits as files under other names, and what to call them."""
    root = tmp_path_factory.mktemp("words")
    source = open_source("digits", "train", channels=1)
    for number in range(40):
        image, label = (source.read(number)[name] for name in ("image", "label"))
        folder = root / "data" / "train" / WORDS[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / f"{number}.png")
    (root / "map.json").write_text(json.dumps({word: str(n) for n, word in enumerate(WORDS)}))
    return root


@pytest.fixture(scope="module")
def asked(words):
    """An evaluation on the words, as config.evals names it."""
    where = dict(source=f"folder:{words / 'data'}", split="train", class_map=words / "map.json")
    return {"kind": "split", "every": 3, "per_class": True} | where


@pytest.fixture(scope="module")
def trained(asked, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    added = {f"evals__words__{key}": value for key, value in asked.items()}
    best = dict(train__keep_best="words/per_class/mean_iou")
    found = pretrain.run(pretrain_config(**added, **best), Workdir(workdir), overview=False)
    return workdir, found


def test_an_evaluation_that_is_added_is_called_when_it_is_due(trained):
    workdir, _ = trained
    rows = {row["step"]: row for row in metrics.read(workdir)}
    assert [step for step, row in rows.items() if "words/accuracy" in row] == [3, 6, 9, 10]
    assert [step for step, row in rows.items() if "val/accuracy" in row] == [10]


def test_its_metrics_can_be_what_the_best_weights_are_kept_by(trained):
    workdir, _ = trained
    rows = [row for row in metrics.read(workdir) if "words/accuracy" in row]
    best = max(rows, key=lambda row: row["words/per_class/mean_iou"])
    assert [path.name for path in (workdir / "best").iterdir()] == [str(best["step"])]


def test_the_command_finds_the_same_by_the_same_words(trained, asked, capsys):
    workdir, found = trained
    summary = {key: value for key, value in found.summary.items() if key.startswith("words/")}
    config = SplitConfig(**asked | {"class_map": str(asked["class_map"])})
    assert evaluate.run(workdir, {"words": config}) == pytest.approx(summary, rel=1e-5)
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"40 images of {asked['source']}"
    assert [line.split()[0] for line in out[1:]] == list(summary)


def test_the_mean_of_the_classes_is_that_of_each(trained):
    _, found = trained
    each = [found.summary.get(f"words/per_class/accuracy/{n}") for n in range(10)]
    there = [value for value in each if value is not None]
    assert len(there) == 10
    assert found.summary["words/per_class/mean_accuracy"] == pytest.approx(np.mean(there))


def test_each_evaluation_is_kept_in_a_line(trained, asked):
    workdir, _ = trained
    (workdir / FILE).unlink(missing_ok=True)
    overrides = [f"--config.evals.words.{key}={value}" for key, value in asked.items()]
    views = "--config.evals.seen.kind=views"
    done = run_command("evaluate", f"--workdir={workdir}", *overrides, views, "--best")
    assert done.returncode == 0, done.stderr
    seen, words = map(json.loads, (workdir / FILE).read_text().splitlines())
    assert (words["name"], words["weights"]) == ("words", "best")
    assert str(words["step"]) == next((workdir / "best").iterdir()).name
    assert words["config"]["split"] == "train" and words["class_map"]["three"] == "3"
    (images,) = words["data"]
    assert images["images"] == 40 and images["source"] == asked["source"]
    assert images["fingerprint"] != seen["data"][0]["fingerprint"]
    assert words["view"]["crop"] == seen["view"]["eval_crop"]
    printed = dict(line.split()[:2] for line in done.stdout.splitlines() if line[0] == "w")
    assert f"{words['metrics']['words/accuracy']:.4f}" == printed["words/accuracy"]
    assert {"seen/accuracy", "seen/cross_entropy"} <= seen["metrics"].keys()
    assert words["versions"].keys() == {"distill", "jax", "flax"}


def test_a_workdir_that_cannot_be_written_is_said(trained, tmp_path):
    workdir, _ = trained
    (workdir / FILE).unlink(missing_ok=True)
    (workdir / FILE).mkdir()
    done = run_command("evaluate", f"--workdir={workdir}")
    (workdir / FILE).rmdir()
    assert done.returncode == 0 and "test/accuracy" in done.stdout
    assert f"{workdir / FILE} cannot be written" in done.stderr
    elsewhere = tmp_path / "found.jsonl"
    for _ in range(2):
        run_command("evaluate", f"--workdir={workdir}", f"--output={elsewhere}")
    lines = elsewhere.read_text().splitlines()
    assert len(lines) == 2 and not (workdir / FILE).exists()


def test_the_shipped_configs_are_evaluations_of_a_finished_run(trained):
    workdir, _ = trained
    done = run_command(
        "evaluate",
        f"--workdir={workdir}",
        "--config=evaluate/transfer",
        "--config.evals.transfer.shots=(1,)",
        "--config.evals.transfer.probe=False",
    )
    assert done.returncode == 0, done.stderr
    names = [line.split()[0] for line in done.stdout.splitlines()[2:]]
    assert names == ["fewshot/1", "knn/20"]
    # After training, the test split is classified.
    assert done.stdout.startswith("360 images of digits")
    done = run_command("evaluate", f"--workdir={workdir}", "--config=evaluate/splits")
    assert "validation/per_class/accuracy/7" in done.stdout and "test/kl" not in done.stdout


def test_features_under_another_name_do_not_hide_those_of_the_run(trained):
    workdir, _ = trained
    config = TransferConfig(shots=(1,), seeds=(0,), train_split="train[:200]")
    found = evaluate.run(workdir, {"transfer": config, "few": config})
    assert found["fewshot/1"] == found["fewshot/few/1"]


def test_the_default_evaluations_can_be_changed_and_taken_away():
    assert pretrain_config().evals == {"val": SplitConfig()}
    assert pretrain_config(evals__val__every=7).evals == {"val": SplitConfig(every=7)}
    assert pretrain_config(evals__val="none").evals == {}


def test_the_short_form_of_transfer_is_an_evaluation():
    config = pretrain_config(transfer__shots=(1,))
    assert [*config.evaluations] == ["val", "transfer"]
    with pytest.raises(ConfigError, match=r"transfer is short for evals\.transfer"):
        pretrain_config(transfer__shots=(1,), evals__transfer__kind="transfer")


@pytest.mark.parametrize("name", ["train", "test"])
def test_a_name_that_metrics_have_already_is_refused(name):
    with pytest.raises(ConfigError, match=f"evals.{name} is what"):
        pretrain_config(**{f"evals__{name}__kind": "split"})


def test_an_evaluation_is_not_what_a_run_computes(trained):
    workdir, found = trained
    config = pretrain_config(evals__val="none", train__keep_best=None)
    assert pretrain.run(config, Workdir(workdir), overview=False).summary == found.summary
    # That a default was taken away is recorded, too.
    assert read_config(workdir)["evals"] == {"val": None}


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--config.evals.a.kind=splt"], "split"),
        (
            ["--config.evals.a.kind=split", "--config.evals.a.every=0"],
            "every is 0; expected",
        ),
        (["--config=evaluate/transfer", "--knn=5"], "--knn is short for an evaluation of its own"),
        (["--config.evals.a.kind=split", "--config.evals.a.sources=x"], "sources"),
    ],
)
def test_what_cannot_be_asked_for_is_said(flags, message, teacher_workdir):
    done = run_command("evaluate", f"--workdir={teacher_workdir}", *flags)
    assert done.returncode == 2 and message in done.stderr


def test_a_source_of_its_own_needs_a_split(tmp_path):
    alone = dict(data__validation_split="none", data__test_split="none")
    config = pretrain_config(**alone, evals__more__kind="split", evals__more__source="digits")
    with pytest.raises(UserError, match=r"give config\.evals\.more\.split"):
        pretrain.run(config, Workdir(tmp_path), overview=False)


def test_published_weights_need_images_for_every_evaluation(tmp_path):
    done = run_command("evaluate", f"--weights={tmp_path}", "--config=evaluate/splits")
    assert done.returncode == 2 and "come without data" in done.stderr


def test_a_kind_is_a_class_of_its_own(tmp_path):
    """As a new file in `distill.evaluate` brings one."""

    class Constant:
        missing, remarks = frozenset(), ()

        def __init__(self, name, value):
            self.name, self.value = name, value

        def __call__(self, params, frozen=None):
            return {f"{self.name}/constant": self.value}

        def seen(self):
            return ["nothing"]

        def about(self):
            return {}

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class ConstantConfig(EvaluationConfig):
        kind: Literal["constant"] = "constant"
        value: float = 1.0

        def build(self, name, subject):
            return Constant(name, self.value)

    workdir = tmp_path / "run"
    config = pretrain_config(evals__pi__kind="constant", evals__pi__value=3.5)
    found = pretrain.run(config, Workdir(workdir), overview=False)
    assert found.summary["pi/constant"] == 3.5
    assert resolve(PretrainConfig, read_config(workdir)) == config.completed()
    assert evaluate.run(workdir, {"pi": ConstantConfig(value=2)}) == {"pi/constant": 2}


def test_what_enters_softmaxes_is_followed_while_a_run_trains(tmp_path):
    overrides = dict(evals__grown__kind="extremes", evals__grown__every=5)
    run = pretrain.run(pretrain_config(**overrides), Workdir(tmp_path), overview=False)
    rows = [row for row in metrics.read(tmp_path) if "grown/log_z" in row]
    assert [row["step"] for row in rows] == [5, 10]
    names = {"grown/attention_logit", "grown/log_z", *(f"grown/attention_logits/{n}" for n in "12")}
    assert (
        names <= rows[-1].keys()
        and rows[-1].items() >= {name: run.summary[name] for name in names}.items()
    )
    per_layer = [rows[-1][f"grown/attention_logits/{n}"] for n in "12"]
    assert rows[-1]["grown/attention_logit"] == max(per_layer) > 0
