"""A run on some classes whose features are evaluated on the others while it trains."""

import pytest
from support import pretrain_config

from distill.errors import UserError
from distill.evaluate.transfer import TransferConfig
from distill.json_files import read_json
from distill.train import metrics
from distill.train.workdir import Workdir, read_config
from pipelines import evaluate, pretrain

TRANSFER = dict(
    transfer__classes=("8", "9"),
    transfer__shots=(1, 2),
    transfer__seeds=(0, 4),
    transfer__neighbours=(3,),
    transfer__every=4,
)
RUN = dict(data__classes=tuple("01234567"), model__num_classes=8)
NAMES = {f"fewshot/{shots}{seed}" for shots in (1, 2) for seed in ("", "/seed0", "/seed4")}
NAMES |= {"knn/3"}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    config = pretrain_config(**RUN, **TRANSFER)
    return path, pretrain.run(config, Workdir(path), overview=False)


def test_features_are_evaluated_when_they_are_due(workdir):
    path, _ = workdir
    rows = {row["step"]: row.keys() for row in metrics.read(path)}
    assert [step for step in rows if rows[step] & NAMES] == [4, 8, 10]
    assert all(rows[step] >= NAMES for step in (4, 8, 10))
    assert [step for step in rows if "val/accuracy" in rows[step]] == [10]


def test_the_summary_holds_the_last_figures(workdir):
    path, trained = workdir
    summary = read_json(path / "summary.json")
    last = metrics.read(path)[-1]
    assert {name: summary[name] for name in NAMES} == {name: last[name] for name in NAMES}
    assert summary == trained.summary
    assert not any(name.startswith("train/") or name == "step" for name in summary)
    # The model itself tells the other classes apart.
    assert trained.params["classifier"]["bias"].shape == (8,)


def test_the_command_finds_the_same_figures(workdir, capsys):
    path, trained = workdir
    config = TransferConfig(
        classes=("8", "9"), test_split="validation", shots=(1, 2), seeds=(0, 4), neighbours=(3,)
    )
    found = evaluate.run(path, {"transfer": config}, batch_size=16)
    # Rounding may move one of 47 images that lies on a border.
    assert found == pytest.approx({name: trained.summary[name] for name in NAMES}, abs=1.1 / 47)
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["fewshot/2", *(f"{found[f'fewshot/2{s}']:.4f}" for s in ("", "/seed0", "/seed4"))] in (
        shown
    )
    assert ["knn/3", f"{found['knn/3']:.4f}"] in shown


def test_what_is_evaluated_may_change_when_the_run_resumes(workdir):
    path, trained = workdir
    again = pretrain.run(pretrain_config(**RUN), Workdir(path), overview=False)
    assert again.summary == trained.summary
    assert read_config(path)["transfer"] is None


def test_a_run_that_could_not_be_evaluated_does_not_start(tmp_path):
    config = pretrain_config(transfer__shots=(1, 500))
    with pytest.raises(UserError, match="500 images of every class"):
        pretrain.run(config, Workdir(tmp_path), overview=False)
    assert not (tmp_path / "config.json").exists()
