"""Clips and objects in videos evaluated by a run while it trains, by commands, and compared."""

import json

import pytest
from clips_of_dots import write_dots
from davis_of_squares import squares, write_sequence
from support import pretrain_config, run_command

from distill.evaluate import propagation, video_evaluation
from distill.report.compared import write_comparison
from distill.runs.compared import compare
from distill.runs.evaluated import FILE
from distill.train import metrics
from distill.train.workdir import Workdir
from pipelines import pretrain


@pytest.fixture(scope="module")
def evals(tmp_path_factory):
    """Keys of evaluations by name, as a config has them."""
    root = tmp_path_factory.mktemp("sequences")
    write_dots(root / "dots", 2)
    write_sequence(root / "davis", "one", *squares(3, 21, 30))
    clips = dict(kind="video", source=f"clips:{root / 'dots'}", frames=4, stride=1, steps=2)
    objects = dict(kind="propagation", source=f"davis:{root / 'davis'}", short_side=20, radius=2)
    return {"clips": clips | {"depth": 1, "clips": 1}, "objects": objects}


@pytest.fixture(scope="module")
def trained(evals, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    added = {
        f"evals__{name}__{key}": value for name, one in evals.items() for key, value in one.items()
    }
    found = pretrain.run(pretrain_config(**added), Workdir(workdir), overview=False)
    return workdir, found.summary


NAMES = {
    *("clips/accuracy", "clips/mean_over_time/accuracy"),
    *("objects/j", "objects/f", "objects/j_and_f"),
}


def test_they_are_called_while_a_run_trains_and_by_the_command(trained, evals, tmp_path):
    workdir, summary = trained
    assert metrics.read(workdir)[-1].keys() >= NAMES and summary.keys() >= NAMES
    # One by a config file, one by flags.
    file = tmp_path / "asked.py"
    file.write_text(
        "import ml_collections\n\n\ndef get_config():\n"
        f"    return ml_collections.ConfigDict({dict(evals=dict(clips=evals['clips']))!r})\n"
    )
    keys = [f"--config.evals.objects.{key}={value}" for key, value in evals["objects"].items()]
    done = run_command("evaluate", f"--workdir={workdir}", f"--config={file}", *keys)
    assert done.returncode == 0, done.stderr
    assert "4 sequences of clips:" in done.stdout and "2 objects in 1 sequence of" in done.stdout
    lines = [*map(json.loads, (workdir / FILE).read_text().splitlines())]
    found = {name: value for line in lines for name, value in line["metrics"].items()}
    assert found == pytest.approx({name: summary[name] for name in NAMES}, abs=1e-6)
    clips, objects = lines
    assert clips["data"][0]["split"] == "test" and clips["learnt_from"][0]["split"] == "train"
    assert objects["data"][0]["images"] == 1


def test_what_was_found_before_is_not_computed_again(trained, evals, tmp_path, monkeypatch):
    from distill.evaluate.propagation import PropagationConfig
    from distill.evaluate.video import VideoConfig

    workdir, _ = trained
    made = {"video": VideoConfig, "propagation": PropagationConfig}
    asked = {name: made[one["kind"]](**one) for name, one in evals.items()}
    first = compare({"a": workdir, "b": workdir}, asked, tmp_path / "out")
    page = write_comparison(first, tmp_path / "out").read_text()
    assert "mean_over_time/accuracy" in page and "j_and_f" in page
    assert first["retained"]["objects/j"]["b"] == {"ratio": 1, "interval": None}
    shares = first["models"][0]["evaluations"]["clips"]["details"]["counts"]
    if shares["accuracy"][0]:
        assert first["retained"]["clips/accuracy"]["b"]["ratio"] == 1
    for module, name in (
        (video_evaluation.VideoEvaluation, "_counts"),
        (propagation.PropagationEvaluation, "_follow"),
    ):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("computed again"))
    again = compare({"a": workdir}, asked, tmp_path / "out")
    assert again["models"][0] == first["models"][0]


def test_a_source_that_is_missing_is_asked_for(trained):
    workdir, _ = trained
    done = run_command("evaluate", f"--workdir={workdir}", "--config.evals.clips.kind=video")
    assert done.returncode == 2
    assert "config.evals.clips.source is missing" in done.stderr
