"""From people's stimuli to a model's trials, beside those of the people who saw them."""

import pytest
from support import untold

from distill.analysis.human.archive import stimuli
from distill.analysis.human.collection import read_collection
from distill.config import resolve
from distill.evaluate.humans import HumanAlignmentConfig
from distill.evaluate.split import SplitConfig
from distill.runs.evaluated import evaluate
from distill.runs.pretraining import PretrainConfig
from distill.train.workdir import Workdir
from pipelines import pretrain
from pipelines.human_alignment import main


@pytest.fixture(scope="module")
def trained_on_edges(tmp_path_factory):
    """A tiny model of the 16 categories that has seen the edges."""
    path = tmp_path_factory.mktemp("edges")
    tree = dict(
        model=dict(family="vit", variant="mu/16", image_size=32, channels=1, num_classes=16),
        loss=dict(kind="softmax"),
        data=dict(
            source=f"folder:{stimuli()}",
            train_split="edge",
            validation_split=None,
            test_split="silhouette",
            threads=1,
        ),
        optimizer=dict(name="adam", learning_rate=3e-3),
        schedule=dict(kind="constant", warmup_steps=0),
        train=dict(batch_size=32, total_steps=4),
    )
    pretrain.run(resolve(PretrainConfig, tree, {}), Workdir(path), overview=False)
    return path


def test_a_model_of_the_categories_is_compared_with_the_people_who_saw_the_same(
    trained_on_edges, tmp_path, capsys
):
    images = dict(source=f"folder:{stimuli()}", split="silhouette", resamples=50)
    config = HumanAlignmentConfig(name="ours", trials=str(tmp_path / "raw"), **images)
    found = evaluate(trained_on_edges, {"humans": config, "test": config_of_split()})
    assert found["humans/accuracy"] == pytest.approx(found["test/accuracy"], abs=1e-6)
    assert found["humans/humans/accuracy"] > 0.7
    assert -1 <= found["humans/error_consistency"] <= 1
    assert "humans/shape_bias" not in found
    assert "humans/silhouette/error_consistency" in found
    told = {f"humans/{figure}" for figure in config.figures}
    assert untold(found, told) == {name for name in found if name.startswith("test/")}
    written = read_collection(tmp_path / "raw")
    assert {one.observer for one in written.trials if not one.is_human} >= {"ours"}
    capsys.readouterr()
    main([f"--raw_data={tmp_path / 'raw'}", f"--json={tmp_path / 'a.json'}"])
    assert "ours" in capsys.readouterr().out


def config_of_split():
    return SplitConfig(split="silhouette", crop=1.0, resize="squash")
