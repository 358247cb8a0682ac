"""Slices of splits are those of TFDS."""

import numpy as np
import pytest

from distill.data import DataConfig, open_source
from distill.data.sources.splits import open_parts, parse_split
from distill.data.spec import labelled_images
from distill.errors import UserError

BOUNDARIES = ["", "0", "1", "7", "-1", "-5", "20", "-20", "0%", "33%", "2.5%", "-10%", "100%"]


class Numbers:
    """A source whose images are numbers, sliced in their own order."""

    class_names, spec = (), labelled_images(1)

    def __init__(self, size):
        self.labels = np.arange(size, dtype=np.int32)
        self.fingerprint = f"{size}"
        self.found = f"{size} numbers"

    def __len__(self):
        return len(self.labels)

    def slicing_order(self):
        return np.arange(len(self))


def ours(text, sizes):
    return open_parts(text, lambda name: Numbers(sizes[name])).labels.tolist()


def theirs(text, sizes):
    tfds = pytest.importorskip("tensorflow_datasets")
    infos = {
        name: tfds.core.SplitInfo(
            name=name, shard_lengths=[size], num_bytes=0, filename_template=None
        )
        for name, size in sizes.items()
    }
    absolute = tfds.core.splits.AbstractSplit.from_spec(text).to_absolute(infos)
    return [
        number
        for one in absolute
        for number in list(range(sizes[one.splitname]))[one.from_ : one.to]
    ]


@pytest.mark.parametrize("size", [1, 20, 99, 1281])
def test_slices_are_those_of_tfds(size):
    sizes, compared = {"train": size}, 0
    for start in BOUNDARIES:
        for stop in BOUNDARIES:
            text = f"train[{start}:{stop}]"
            try:
                expected = theirs(text, sizes)
            except ValueError:
                with pytest.raises(UserError, match=r"train\["):
                    ours(text, sizes)
                continue
            assert ours(text, sizes) == expected, text
            compared += bool(expected)
    assert compared > 20 or size == 1


@pytest.mark.parametrize(
    "text",
    ["train+test", "train[:10%]+train[90%:]", "test[-3:] + train[:2]", "train[:2]+train[1:3]"],
)
def test_sums_are_those_of_tfds(text):
    sizes = {"train": 40, "test": 9}
    assert ours(text, sizes) == theirs(text, sizes)


@pytest.mark.parametrize(
    "text",
    "train[ train[5] train[:] train[::2] train[:half] train[1.5:] +train train[:5]x train] "
    "train[0shard:] [:5] train[:-] train[:1%%]".split(),
)
def test_wrong_syntax_is_refused_with_an_example(text):
    with pytest.raises(UserError) as caught:
        parse_split(text)
    assert repr(text) in str(caught.value) and "train[:10%]+train[90%:]" in str(caught.value)


def test_a_slice_beyond_the_split_says_how_many_images_there_are():
    with pytest.raises(UserError, match=r"train\[:5000\] reaches beyond the 1,197 images"):
        open_source("digits", "train[:5000]", channels=1)


def test_a_slice_without_images_says_so():
    with pytest.raises(UserError, match=r"'train\[:0\]' of digits holds no images"):
        open_source("digits", "train[:0]", channels=1)


def test_a_run_says_what_to_do_without_images():
    with pytest.raises(UserError) as caught:
        DataConfig(test_split="test[:0]").open_splits(channels=1)
    assert str(caught.value).endswith("to evaluate on: config.data.test_split=none")
    with pytest.raises(UserError, match="There is nothing to train on") as caught:
        DataConfig(train_split="train[:0]").open_splits(channels=1)
    assert "test_split" not in str(caught.value)


def descriptions(source):
    return [source.describe(index) for index in range(len(source))]


def test_digits_are_sliced_in_their_order():
    whole = descriptions(open_source("digits", "train", channels=1))
    part = open_source("digits", "train[10%:20%]+train[-7:]", channels=1)
    assert descriptions(part) == whole[120:239] + whole[-7:]
    for index in (0, 118, 119, 125):
        assert part.read(index)["label"] == part.labels[index]


def test_slices_of_a_folder_hold_all_classes_in_the_order_of_paths(tmp_path):
    for number in range(300):
        path = tmp_path / "train" / f"class{number // 100}" / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    whole = open_source(f"folder:{tmp_path}", "train", channels=3)
    first = open_source(f"folder:{tmp_path}", "train[:30%]", channels=3)
    rest = open_source(f"folder:{tmp_path}", "train[30%:]", channels=3)
    assert (len(first), len(rest)) == (90, 210)
    assert sorted(descriptions(first) + descriptions(rest)) == descriptions(whole)
    assert descriptions(first) == sorted(descriptions(first))
    assert all(20 <= count <= 40 for count in np.bincount(first.labels))
    assert first.found == "90 of 300 images in 3 classes"
    # Where the folder lies does not matter.
    (tmp_path / "train").rename(tmp_path / "moved")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "moved").rename(tmp_path / "elsewhere" / "train")
    again = open_source(f"folder:{tmp_path}/elsewhere", "train[:30%]", channels=3)
    assert [text.rsplit("/", 1)[1] for text in descriptions(again)] == [
        text.rsplit("/", 1)[1] for text in descriptions(first)
    ]


def test_images_without_labels_are_sliced_too(tmp_path):
    for number in range(10):
        (tmp_path / f"{number}.png").touch()
    parts = [
        descriptions(open_source(f"images:{tmp_path}", split, channels=3))
        for split in ("train[:4]", "train[4:]")
    ]
    assert [len(part) for part in parts] == [4, 6]
    assert sorted(parts[0] + parts[1]) == [str(tmp_path / f"{number}.png") for number in range(10)]


def test_splits_of_different_classes_are_not_added(tmp_path):
    for place in ("train/a", "train/b", "test/a"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "i.png").touch()
    with pytest.raises(UserError, match="'train' and 'test' have different classes"):
        open_source(f"folder:{tmp_path}", "train+test", channels=3)
