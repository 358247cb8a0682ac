"""Prepared images are their source's."""

import contextlib
import json
import os
import pickle
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from photo_folders import write_folder

from distill.data import DataConfig, open_source
from distill.data.examples import EvaluationViews, TrainingViews
from distill.data.jpeg import UnsupportedJpeg, parse
from distill.data.preparing import Preparation, prepare
from distill.data.sources import CorruptImage
from distill.data.views import ViewConfig
from distill.errors import RunFailed, UserError
from distill.json_files import read_json, write_json

TWO = ("train", "val")


def quiet(line):
    pass


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A folder, and what is prepared of it in shards of four images."""
    root = tmp_path_factory.mktemp("prepared")
    source, output = f"folder:{write_folder(root / 'photos')}", root / "output"
    prepare(
        Preparation(source=source, output=output, splits=TWO, workers=0, images_per_shard=4), quiet
    )
    return source, f"prepared:{output}"


@pytest.fixture
def copy(both, tmp_path):
    """Prepared data that may be damaged."""
    return shutil.copytree(both[1].partition(":")[2], tmp_path / "copy")


def opened(name, split="train", **options):
    return open_source(name, split, channels=3, **options)


@pytest.mark.parametrize("split", ["train", "val", "validation", "train[:40%]"])
def test_splits_and_their_slices_are_those_of_the_source(both, split):
    one, other = (opened(name, split) for name in both)
    assert [one.name(n) for n in range(len(one))] == [other.name(n) for n in range(len(other))]
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.class_names == other.class_names
    assert one.fingerprint == other.fingerprint


def test_what_can_be_marked_is_cut_and_the_rest_is_as_it_was(both):
    one, other = map(opened, both)
    kinds = {}
    for index in range(len(one)):
        try:
            is_cut = bool(parse(other.encoded(index)).lengths)
        except (CorruptImage, UnsupportedJpeg):
            is_cut = False
        kinds[os.path.basename(one.name(index))] = is_cut
    whole = {name for name, is_cut in kinds.items() if not is_cut}
    assert whole == {"progressive.jpg", "cmyk.jpg", "lossless.png", "truncated.jpg", "empty.jpg"}
    for index, (name, is_cut) in enumerate(kinds.items()):
        if name != "empty.jpg":
            assert (one.encoded(index) == other.encoded(index)) != is_cut


def compare(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_a_directory_of_decoded_images_is_shared_with_the_source(both, tmp_path):
    for name in both:
        source = DataConfig(source=name, cache=str(tmp_path), cache_gib=0.1).open(
            "validation", channels=3
        )
        for index in range(len(source)):
            with contextlib.suppress(CorruptImage):
                source.read(index)
    assert len(list(tmp_path.glob("*/index"))) == 1


@pytest.mark.parametrize("cache", [None, "ram"])
@pytest.mark.parametrize("teacher_view", ["same", "fixed", "independent"])
@pytest.mark.parametrize(
    "options", [{}, {"exif_orientation": True}, {"decoder": "pillow"}, {"shrink": 80}]
)
def test_training_views_are_those_of_the_source(both, options, teacher_view, cache):
    views = []
    for name in both:
        config = DataConfig(source=name, cache=cache, cache_gib=0.1, **options)
        views.append(
            TrainingViews(
                config.open("train", channels=3),
                ViewConfig(),
                64,
                seed=3,
                batch_size=4,
                rows=range(4),
                teacher_view=teacher_view,
                decoder=config.decoder,
            )
        )
    one, other = views
    for position in range(2 * len(one.source)):
        compare(one.example(position), other.example(position))


@pytest.mark.parametrize("split", TWO)
@pytest.mark.parametrize("view_seed", [None, 7])
@pytest.mark.parametrize("options", [{}, {"exif_orientation": True}, {"channels": 1}])
def test_evaluation_views_are_those_of_the_source(both, options, view_seed, split):
    one, other = (
        EvaluationViews(
            open_source(name, split, **{"channels": 3} | options),
            ViewConfig(),
            64,
            batch_size=4,
            rows=range(4),
            view_seed=view_seed,
            decoder="fast",
        )
        for name in both
    )
    for place in range(len(one)):
        compare(one[place], other[place])


def test_workers_are_handed_a_few_bytes_an_image(both):
    source = opened(both[1])
    data = pickle.dumps(source)
    assert len(data) < 1500 + 16 * len(source)
    again = pickle.loads(data)  # noqa: S301
    compare(*({"image": one.read(3)["image"]} for one in (source, again)))


def test_a_copy_is_the_same_wherever_it_lies(both, copy):
    one, other = opened(both[1]), opened(f"prepared:{copy}")
    assert one.fingerprint == other.fingerprint
    compare(one.read(2), other.read(2))


def test_a_split_that_was_not_prepared_is_named(both):
    with pytest.raises(UserError, match="has no split 'test'; it has train, val"):
        opened(both[1], "test")


def remove(name):
    return lambda folder: (folder / name).unlink()


def shorten(name):
    return lambda folder: os.truncate(folder / name, 1000)


def other_version(folder):
    file = folder / "manifest.json"
    write_json(file, read_json(file) | {"version": 2}, checked=True)


def no_manifest(folder):
    (folder / "manifest.json").write_text("[]")


def noted(key, value):
    def change(folder):
        file = folder / "manifest.json"
        content = read_json(file)
        content["splits"]["train"][key] = value
        write_json(file, content, checked=True)

    return change


def renamed_class(checked):
    def change(folder):
        file = folder / "manifest.json"
        content = json.loads(file.read_text())
        content["splits"]["train"]["class_names"][0] += "?"
        if not checked:
            # As earlier versions wrote it.
            del content["checksum"]
        file.write_text(json.dumps(content))

    return change


def unfinished(folder):
    (folder / "manifest.json").unlink()
    (folder / "unfinished").mkdir()


def other_index(folder):
    shutil.copy(folder / "val.index", folder / "train.index")


def flipped(folder):
    file = folder / "train.index"
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove("manifest.json"), "holds no manifest.json, so that it is no prepared data"),
        (unfinished, "is not prepared to the end; run the same distill prepare command again"),
        (other_version, "was prepared in format 2, and this version of the project reads format 1"),
        (no_manifest, "is not what distill prepare writes"),
        (noted("fingerprint", None), r"is not what distill prepare writes \(fingerprint is None\)"),
        (noted("images", "20"), r"is not what distill prepare writes \(images is '20'\)"),
        (renamed_class(checked=True), "manifest.json is damaged: it does not say what was written"),
        (renamed_class(checked=False), "has the label .*, which is none of the . classes of "),
        (remove("train.index"), "is not as it was prepared: .*train.index"),
        (other_index, "train.index is another one than its manifest says"),
        (flipped, "its content does not have its checksum"),
        (remove("train-00001-of-00005.array_record"), "train-00001-of-00005.array_record cannot"),
        (shorten("train-00002-of-00005.array_record"), "train-00002-of-00005.array_record cannot"),
        (shutil.rmtree, "is no directory"),
    ],
)
def test_what_is_not_as_it_was_prepared_is_named_at_the_start(copy, damage, message):
    damage(copy)
    with pytest.raises(UserError, match=message):
        opened(f"prepared:{copy}")


@pytest.mark.parametrize("size", [0, 3, 140, 200])
def test_an_order_of_slices_that_is_damaged_is_named(copy, size):
    os.truncate(copy / "train.order.npy", size)
    with pytest.raises(UserError, match=r"train.order.npy is damaged"):
        opened(f"prepared:{copy}", "train[:50%]")


def test_an_order_of_slices_that_is_missing_or_another_is_named(copy):
    file = copy / "train.order.npy"
    order = np.load(file)
    np.save(file, order[::-1])
    with pytest.raises(UserError, match=r"train.order.npy is damaged: it is another one"):
        opened(f"prepared:{copy}", "train[:50%]")
    file.unlink()
    with pytest.raises(UserError, match=r"train.order.npy is missing"):
        opened(f"prepared:{copy}", "train[:50%]")
    assert len(opened(f"prepared:{copy}")) == len(order)


def test_a_shard_that_is_damaged_ends_a_run_and_is_named(copy, monkeypatch):
    monkeypatch.setattr(time, "sleep", pytest.fail)
    file = copy / "train-00001-of-00005.array_record"
    data = bytearray(file.read_bytes())
    data[70_000:] = os.urandom(len(data) - 70_000)
    data[500:1500] = bytes(1000)
    file.write_bytes(data)
    source = opened(f"prepared:{copy}")
    with pytest.raises(RunFailed, match=r"train-00001-.*_record is damaged: .*distill prepare"):
        for index in range(4, 8):
            np.asarray(source.read(index)["image"])


def test_a_shard_that_changes_ends_a_run_and_is_named(copy):
    source = opened(f"prepared:{copy}")
    os.truncate(copy / "train-00001-of-00005.array_record", 1000)
    with pytest.raises(RunFailed, match=r"train-00001-of-00005.array_record has changed"):
        source.read(5)


def test_a_manifest_says_what_there_is(both):
    content = json.loads(Path(both[1].partition(":")[2], "manifest.json").read_text())
    assert (content["source"], content["restarts"]) == (both[0], True)
    train = content["splits"]["train"]
    assert (train["images"], train["marked"], train["corrupt"]) == (20, 15, 2)
    assert sum(shard["images"] for shard in train["shards"]) == 20
    assert train["fingerprint"] == opened(both[0]).fingerprint
