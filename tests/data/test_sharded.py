import pytest

from distill.data.sources.sharded import split_of


@pytest.mark.parametrize(
    ("shard", "split"),
    [
        ("train-000.tar", "train"),
        ("imagenet-val-000-of-147.tar", "val"),
        ("train/0.tar", "train"),
        ("more/train-001.tar", "train"),
        ("p1/deep/train-001.tar", "train"),
        ("data/test-00000-of-00001.parquet", "test"),
        ("val/train-000.tar", "val"),
        ("holdout/000.tar", "holdout"),
        ("data/flowers-000.tar", "flowers"),
        ("flowers-000.tar", "flowers"),
    ],
)
def test_a_shards_split_is_a_usual_name_in_its_path(shard, split):
    assert split_of(shard) == split
