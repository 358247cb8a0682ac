"""What is found in folders, in which order, and what is said of the rest."""

import binascii
import os
import pickle
import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.config import load_file, resolve
from distill.data import DataConfig, open_source
from distill.data.sources import layout, scanning
from distill.data.sources.file_table import FileTable
from distill.data.sources.layout import hashed
from distill.data.sources.scanning import Run
from distill.errors import UserError
from pipelines.pretrain import PretrainConfig


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def opened(root, split="train", kind="folder"):
    return open_source(f"{kind}:{root}", split, channels=3)


def paths(root, split="train", kind="folder"):
    source = opened(root, split, kind)
    return [os.path.relpath(source.describe(i), root) for i in range(len(source))]


def test_images_are_in_the_order_of_their_paths_parts(tmp_path):
    rng = random.Random(0)
    parts = ["a", "a.png", "a b", "a-b", "B", "é", "\U0001f600", "\ufb01", "z"]
    for _ in range(200):
        folders = [rng.choice(parts) + "_" for _ in range(rng.randrange(4))]
        touch(tmp_path / "train" / "x", "/".join([*folders, rng.choice(parts) + ".png"]))
    expected = [path for path in sorted((tmp_path / "train" / "x").rglob("*")) if path.is_file()]
    assert len(expected) > 50
    assert paths(tmp_path) == [str(path.relative_to(tmp_path)) for path in expected]
    assert paths(tmp_path / "train", kind="images") == [
        str(path.relative_to(tmp_path / "train")) for path in expected
    ]


@pytest.fixture
def linked(tmp_path):
    """Links to a file, a class, a folder in a class, the root, nothing and themselves."""
    root, other = tmp_path / "root", tmp_path / "other"
    touch(root, "train/ant/a.png", "train/ant/deep/b.png", "train/bee/c.png")
    touch(other, "d.png", "deeper/e.png", "f.heic")
    (root / "train" / "cat").symlink_to(other)
    (root / "train" / "ant" / "other").symlink_to(other)
    (root / "train" / "bee" / "up").symlink_to(root)
    (root / "train" / "bee" / "here").symlink_to(".")
    (root / "train" / "bee" / "nothing.png").symlink_to(tmp_path / "nowhere")
    (root / "train" / "bee" / "self.png").symlink_to("self.png")
    (root / "train" / "bee" / "linked.png").symlink_to(other / "d.png")
    return root


def test_links_are_followed_at_every_depth_and_loops_are_not(linked):
    assert paths(linked) == [
        "train/ant/a.png",
        "train/ant/deep/b.png",
        "train/ant/other/d.png",
        "train/ant/other/deeper/e.png",
        "train/bee/c.png",
        "train/bee/linked.png",
        "train/cat/d.png",
        "train/cat/deeper/e.png",
    ]
    assert opened(linked).labels.tolist() == [0] * 4 + [1] * 2 + [2] * 2
    found = opened(linked).found
    assert found.startswith("8 images in 3 classes; left out 2 .heic, ")
    assert "2 dangling links" in found and "2 looping links" in found


def test_links_are_followed_among_images_without_labels(linked):
    assert "train/cat/deeper/e.png" in paths(linked, kind="images")
    assert "2 looping links" in opened(linked, kind="images").found


@pytest.mark.parametrize("kind", ["folder", "images"])
def test_hidden_names_and_what_archives_leave_are_passed_over(tmp_path, kind):
    touch(tmp_path, "train/x/a.png", "train/x/.a.png", "train/x/._a.png", "train/x/.hidden/b.png")
    touch(tmp_path, "train/.thumbs/a.png", "train/x/__MACOSX/._a.png", "train/__MACOSX/x/._a.png")
    touch(tmp_path, "__MACOSX/train/x/._a.png", ".git/a.png", "train/x/deep/.DS_Store")
    (tmp_path / "train" / ".linked").symlink_to(tmp_path / "train" / "x")
    (tmp_path / "train" / "x" / ".nothing").symlink_to("nowhere")
    assert paths(tmp_path, kind=kind) == ["train/x/a.png"]
    assert "left out" not in opened(tmp_path, kind=kind).found


def test_what_is_left_out_is_counted_by_kind_most_first(tmp_path):
    touch(tmp_path, *(f"train/{name}/{n}.jpg" for name in "abc" for n in range(4)))
    touch(tmp_path, *(f"train/a/{n}.HEIC" for n in range(3)), "train/b/4.heic", "train/Thumbs.db")
    assert opened(tmp_path).found == "12 images in 3 classes; left out 4 .heic, 1 .db"
    touch(tmp_path, *(f"train/a/x.{suffix}" for suffix in ("txt", "xml", "zip", "csv")))
    touch(tmp_path, "train/a/LICENCE", "train/stray.png")
    assert opened(tmp_path).found == (
        "12 images in 3 classes; left out 4 .heic, 1 without a suffix, 1 .csv, 1 .db, 1 .txt, "
        "… and 2 others, 1 image outside the folders of classes"
    )
    assert opened(tmp_path, kind="images").found.startswith("13 images without labels; left out 4")


def test_pipes_are_left_out(tmp_path):
    touch(tmp_path, "train/x/a.png")
    os.mkfifo(tmp_path / "train" / "x" / "pipe.png")
    assert opened(tmp_path).found == "1 image in 1 class; left out 1 special file"


def test_a_class_without_images_is_named(tmp_path):
    touch(tmp_path, "train/ant/a.png", "train/bee/notes.txt", "train/cat/c.png")
    (tmp_path / "train" / "dog").mkdir()
    assert opened(tmp_path).class_names == ("ant", "bee", "cat", "dog")
    assert opened(tmp_path).labels.tolist() == [0, 2]
    assert opened(tmp_path).found == (
        "2 images in 4 classes; no images of bee, dog; left out 1 .txt"
    )


@pytest.mark.parametrize("kind", ["folder", "images"])
def test_a_folder_without_images_says_what_is_there(tmp_path, kind):
    touch(tmp_path, "train/x/a.heic", "train/x/b.heic")
    with pytest.raises(UserError, match=r"no images under .*left out 2 \.heic.*\.jpeg \.jpf"):
        opened(tmp_path, kind=kind)


BAD_NAMES = {
    os.fsdecode(b"caf\xe9"): r"caf\xe9",
    "two\nlines": r"two\nlines",
    "tab\there": r"tab\there",
    "bell\x07": r"bell\x07",
    "next\x85line": r"next\x85line",
    "line\u2028separator": r"line\u2028separator",
}


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("split", ["train/", ""])
def test_a_class_whose_name_is_no_line_of_text_is_refused(tmp_path, name, split):
    touch(tmp_path, f"{split}{name}/a.png")
    with pytest.raises(UserError) as caught:
        opened(tmp_path)
    assert f"'{BAD_NAMES[name]}'" in str(caught.value)
    assert str(caught.value).isprintable()


def test_names_of_other_scripts_are_classes(tmp_path):
    names = sorted(["café", "花", "two words", "نرگس", "👩‍🌾"])
    touch(tmp_path, *(f"train/{name}/a.png" for name in names))
    assert opened(tmp_path).class_names == tuple(names)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_files_may_have_any_name(tmp_path, name):
    path = tmp_path / "train" / "x" / f"{name}.png"
    path.parent.mkdir(parents=True)
    Image.new("L", (2, 3)).save(path, "png")
    source = opened(tmp_path)
    assert source.read(0)["image"].shape == (3, 2, 3)
    assert source.describe(0) == f"{tmp_path}/train/x/{BAD_NAMES[name]}.png"
    assert len(source.fingerprint) == 16 and len(opened(tmp_path, "train[:100%]")) == 1


def flat(root, count=200):
    touch(root, *(f"{name}/{n:03}.png" for name in ("ant", "bee") for n in range(count // 2)))


def test_splits_are_drawn_from_a_folder_of_classes(tmp_path):
    flat(tmp_path)
    found = {split: paths(tmp_path, split) for split in ("train", "validation", "test")}
    assert sorted(name for names in found.values() for name in names) == sorted(
        f"{name}/{n:03}.png" for name in ("ant", "bee") for n in range(100)
    )
    assert 140 <= len(found["train"]) <= 175 and 8 <= len(found["test"]) <= 32
    assert all(names == sorted(names) for names in found.values())
    for split, names in found.items():
        assert opened(tmp_path, split).class_names == ("ant", "bee")
        assert [int(name.startswith("bee")) for name in names] == list(
            opened(tmp_path, split).labels
        )
    assert opened(tmp_path, "val").found.endswith("images in 2 classes, drawn from 200")


def test_a_file_stays_in_its_split_when_others_are_added_and_the_folder_moves(tmp_path):
    flat(tmp_path / "one", 60)
    before = {split: set(paths(tmp_path / "one", split)) for split in ("train", "validation")}
    touch(tmp_path / "one", *(f"{name}/new{n}.png" for name in ("ant", "cat") for n in range(60)))
    shutil.move(tmp_path / "one", tmp_path / "two")
    for split, names in before.items():
        assert names < set(paths(tmp_path / "two", split))


def split_mix(counter: int) -> int:
    """Java's SplittableRandom.mix64 of the counter's next state, in Python's whole numbers."""
    z = (counter + 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def test_the_draw_is_the_documented_hash(tmp_path):
    # The first two numbers of SplittableRandom(0), as its reference implementation prints them.
    assert split_mix(0) == 0xE220A8397B1DCDAF
    assert split_mix(0x9E3779B97F4A7C15) == 0x6E789E6AA1B965F4
    flat(tmp_path, 40)
    for split, low, high in (("train", 0, 0.8), ("validation", 0.8, 0.9), ("test", 0.9, 1)):
        names = paths(tmp_path, split)
        fractions = [split_mix(binascii.crc32(name.encode())) / 2**64 for name in names]
        assert names and all(low <= fraction < high for fraction in fractions)


def test_files_with_names_in_a_row_are_drawn_evenly():
    runs = [Run(f"c{c:02}", [f"image_{n:06}.jpg" for n in range(1000)]) for c in range(20)]
    table = FileTable.of("/nowhere", runs)
    fractions = hashed(table.relative()) / 2.0**64
    # Of 20,000 uniform draws, a tenth has 2,000 ± 42, and a class 800 ± 13 of its 1,000 below 0.8.
    assert np.abs(np.histogram(fractions, 10, (0, 1))[0] - 2000).max() < 5 * 42
    assert np.abs((fractions.reshape(20, 1000) < 0.8).sum(axis=1) - 800).max() < 5 * 13


@pytest.mark.parametrize(
    ("folder", "asked"),
    [
        ("val", "validation"),
        ("valid", "validation"),
        ("validation", "val"),
        ("dev", "validation"),
        ("training", "train"),
        ("Train", "train"),
        ("testing", "test"),
        ("TEST", "test"),
    ],
)
def test_usual_names_of_a_split_stand_for_each_other(tmp_path, folder, asked):
    touch(tmp_path, f"{folder}/x/a.png", "other/x/b.png")
    assert paths(tmp_path, asked) == [f"{folder}/x/a.png"]


def test_a_folder_of_the_very_name_comes_first(tmp_path):
    touch(tmp_path, "val/x/a.png", "validation/x/b.png", "Val/x/c.png")
    for name in ("val", "validation", "Val"):
        assert [path.split("/")[0] for path in paths(tmp_path, name)] == [name]
    with pytest.raises(UserError, match="no split 'valid', and Val and val and validation could"):
        opened(tmp_path, "valid")


def refused(root, split="train"):
    with pytest.raises(UserError) as caught:
        opened(root, split)
    return str(caught.value)


def test_a_split_that_is_not_there_is_not_drawn_where_others_are_folders(tmp_path):
    touch(tmp_path, "train/x/a.png", "val/x/b.png")
    assert "no split 'test'; it has train, val. Expected root/split/class" in refused(
        tmp_path, "test"
    )


def test_a_split_that_is_never_drawn_says_which_are(tmp_path):
    flat(tmp_path)
    message = refused(tmp_path, "holdout")
    assert "no split 'holdout'; it has ant, bee" in message
    assert "splits train, validation and test are drawn" in message


def test_images_beside_folders_of_classes_are_refused(tmp_path):
    flat(tmp_path)
    touch(tmp_path, "stray.png")
    message = refused(tmp_path)
    assert "holds stray.png beside the folders ant, bee. Expected" in message
    assert f"images without labels are images:{tmp_path}" in message


def test_images_without_folders_are_refused(tmp_path):
    touch(tmp_path, "a.png", "b.png")
    assert "holds a.png, b.png. Expected images in folders" in refused(tmp_path)


def test_a_class_that_is_called_like_a_split_is_refused(tmp_path):
    touch(tmp_path, "train/a.png", "bus/b.png")
    message = refused(tmp_path)
    assert f"{tmp_path}/train holds a.png and no folders" in message
    assert "If 'train' is a class" in message


@pytest.mark.parametrize("place", ["flowers", "ant"])
def test_splits_below_the_root_are_not_taken_for_parts_of_a_class(tmp_path, place):
    touch(tmp_path, f"{place}/train/x/a.png", f"{place}/test/x/b.png", "bee/c.png")
    assert f"{tmp_path}/{place} holds test, train, as splits are called" in refused(tmp_path)


def test_a_file_is_not_a_folder(tmp_path):
    touch(tmp_path, "file")
    assert "file is not a folder" in refused(tmp_path / "file")


def test_the_imagenet_configs_run_on_a_folder_with_train_and_val(tmp_path):
    touch(tmp_path, *(f"train/n{c}/{n}.JPEG" for c in range(4) for n in range(50)))
    touch(tmp_path, *(f"val/n{c}/{n}.JPEG" for c in range(4) for n in range(3)))
    tree = load_file(str(Path(__file__).parents[2] / "configs/pretrain/imagenet.py"))
    config = resolve(PretrainConfig, tree, {"data.source": f"folder:{tmp_path}"})
    splits = config.data.open_splits(channels=3)
    assert [len(split) for split in (splits.train, splits.validation, splits.test)] == [198, 2, 12]
    assert splits.class_names == ("n0", "n1", "n2", "n3")


def test_a_runs_splits_list_a_folder_once_and_the_next_run_lists_it_again(tmp_path, monkeypatch):
    listed = []
    bare = scanning.list_folder

    def noted(path, *also):
        listed.append(path)
        return bare(path, *also)

    for module in (scanning, layout):
        monkeypatch.setattr(module, "list_folder", noted)
    touch(tmp_path, *(f"{name}/{number}.jpg" for name in "ab" for number in range(40)))
    config = DataConfig(
        source=f"folder:{tmp_path}", train_split="train[:50%]+train[60%:]", validation_split="train"
    )
    drawn = config.open_splits(channels=3)
    places = [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "b")]
    assert sorted(listed) == places
    alone = [
        config.open(split, channels=3)
        for split in (config.train_split, config.validation_split, config.test_split)
    ]
    for one, other in zip(drawn.opened.values(), alone, strict=True):
        assert one.fingerprint == other.fingerprint and one.found == other.found
    touch(tmp_path, *(f"b/{number}.jpg" for number in range(40, 80)))
    listed.clear()
    again = config.open_splits(channels=3)
    assert sorted(listed) == places
    assert len(again.validation) + len(again.test) > len(drawn.validation) + len(drawn.test)


def test_a_source_is_handed_to_other_processes_without_an_object_for_each_file(tmp_path):
    flat(tmp_path, 400)
    source = opened(tmp_path)
    data = pickle.dumps(source)
    assert len(data) < 40 * len(source)
    again = pickle.loads(data)  # noqa: S301
    assert [again.describe(i) for i in range(len(again))] == [
        source.describe(i) for i in range(len(source))
    ]
    np.testing.assert_array_equal(again.labels, source.labels)


@pytest.fixture
def deep(tmp_path):
    """An image below 1200 folders, which pytest could not remove."""
    root = tmp_path / "deep"
    root.mkdir()
    folder = os.open(root, os.O_DIRECTORY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=folder)
        below = os.open("d", os.O_DIRECTORY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(os.open("a.png", os.O_CREAT, dir_fd=folder))
    os.close(folder)
    yield root
    subprocess.run(["rm", "-rf", root], check=True)


def test_deep_folders_are_read(deep):
    assert len(opened(deep, kind="images")) == 1
