"""The file that a chosen run is written to."""

import pytest

from distill.auto.choices import Choice, choice_table
from distill.auto.config_file import config_text, said, write_whole
from distill.config import load_file, resolve
from distill.runs.distillation import DistillConfig

TREE = dict(
    model=dict(family="vit", variant="S/16", image_size=32),
    teacher=dict(weights=dict(path='/data/a "b"\\c/täacher')),
    matching=dict(losses=dict(kl=0.0, embedding_cosine=1.0, labels=1.0), mixup=1.0),
    data=dict(source="folder:/data/it's", validation_split=None, view=dict(crop_area=(0.9, 1.0))),
    optimizer=dict(name="adam", learning_rate=1e-3, weight_decay=(("kernel$", 3e-4),)),
    schedule=dict(kind="cosine", warmup_percent=5.0),
    train=dict(batch_size=16, total_steps=900),
)
CHOICES = [
    Choice("student", "S/16", 'the usual """ one', ("model.variant",)),
    Choice("batch", "16", "fits " * 40, ("train.batch_size", "train.microbatches")),
]


def written(tmp_path, overrides=None):
    config = resolve(DistillConfig, TREE, overrides or {})
    text = config_text(
        said(config, TREE, overrides or {}), CHOICES, title='A """title"""\\', command="distill x"
    )
    write_whole(tmp_path / "config.py", text)
    return config, text


def test_the_file_resolves_to_the_same_config(tmp_path):
    config, text = written(tmp_path)
    assert resolve(DistillConfig, load_file(str(tmp_path / "config.py"))) == config
    assert "# student: the usual ''' one" in text
    assert all(len(line) <= 100 for line in text.splitlines())


def test_what_the_user_says_is_in_the_file(tmp_path):
    overrides = {
        "data.view.crop_area": "(0.5,1)",
        "train.log_every": "7",
        "evals.views": "none",
        "evals.near.kind": "transfer",
        "evals.near.shots": "(5,)",
        "matching.losses.labels": "0.5",
        "teacher.dtype": "bfloat16",
    }
    config, text = written(tmp_path, overrides)
    again = resolve(DistillConfig, load_file(str(tmp_path / "config.py")))
    assert again == config and again.train.log_every == 7 and "views" not in again.evals
    assert "crop_area=(0.5, 1.0)" in text and "shots=(5,)" in text


def test_a_config_beside_it_is_replaced_whole(tmp_path):
    written(tmp_path)
    written(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["config.py"]


@pytest.mark.parametrize("width", [60, 100, 300])
def test_tables_are_no_wider_than_they_may_be(width):
    table = choice_table([*CHOICES, Choice("teacher", "x" * 90, "why " * 30)], width)
    assert max(map(len, table.splitlines())) <= min(width, 110)
    assert table.startswith("student  S/16")
