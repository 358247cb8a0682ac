import contextlib
import json
import re
from collections import Counter

import numpy as np
import pytest
from mixed_data import three_formats
from PIL import Image
from support import arguments, pretrain_config, run_command

from distill.data import DataConfig, FewImages, TrainLoader
from distill.data.classes import renamed
from distill.data.examples import TrainingViews
from distill.data.mixture import Mixture, PartConfig
from distill.data.order import Mixed, Shuffled, order_of
from distill.data.sources import CorruptImage
from distill.data.spec import MaskSpec, labelled_images
from distill.data.views import ViewConfig
from distill.errors import UserError


class Flat:
    """Images that are all of one value, so that a view says whose they are."""

    found = "flat images"

    def __init__(self, value, count, class_names=("a", "b"), corrupt=()):
        self.value, self.count, self.class_names = value, count, class_names
        self.fingerprint, self.corrupt = f"{value} {count}", corrupt
        self.spec = labelled_images(1)

    def __len__(self):
        return self.count

    @property
    def labels(self):
        classes = len(self.class_names)
        return (
            np.arange(self.count, dtype=np.int32) % classes
            if classes
            else -np.ones(self.count, np.int32)
        )

    def read(self, index):
        if index in self.corrupt:
            raise CorruptImage("torn")
        return {"image": np.full((8, 8, 1), self.value, np.uint8), "label": self.labels[index]}

    def describe(self, index):
        return f"flat {self.value} {index}"

    name = describe


MIXED = Mixed((10, 100, 7), (1.0, 2.5, 0.2), seed=3)


def test_every_part_has_its_share_of_every_stretch():
    total = sum(MIXED.weights)
    for position in (0, 1, 1000, 1024, 5000, 2**20, 2**40, 2**61):
        before = MIXED.images_before(position)
        assert sum(before) == position and min(before) >= 0
        if position % 1024 == 0:
            for found, weight in zip(before, MIXED.weights, strict=True):
                assert abs(found - position * weight / total) <= max(1, position * 1e-15)


def test_within_a_block_parts_are_shuffled():
    parts = [np.searchsorted([10, 110], MIXED.at(p).image, side="right") for p in range(2048)]
    runs = np.count_nonzero(np.diff(parts))
    assert runs > 400
    assert parts[:1024] != parts[1024:]
    other = Mixed(MIXED.images, MIXED.weights, seed=4)
    assert parts != [
        np.searchsorted([10, 110], other.at(p).image, side="right") for p in range(2048)
    ]


def test_each_part_goes_through_its_images_once_an_epoch():
    seen = [Counter(), Counter(), Counter()]
    for position in range(6000):
        epoch, image = MIXED.at(position)
        part = int(np.searchsorted([10, 110], image, side="right"))
        seen[part][(epoch, image)] += 1
    for part, count in enumerate(MIXED.images):
        assert set(seen[part].values()) == {1}
        epochs = Counter(epoch for epoch, _ in seen[part])
        whole = range(max(epochs))
        assert all(epochs[epoch] == count for epoch in whole) and len(whole) >= 3
        first, second = ([i for e, i in seen[part] if e == epoch] for epoch in (0, 1))
        assert sorted(first) == sorted(second) and first != second


def test_order_does_not_depend_on_what_was_asked_before():
    positions = np.random.default_rng(0).permutation(5000)
    assert {int(p): MIXED.at(int(p)) for p in positions} == {p: MIXED.at(p) for p in range(5000)}


def test_images_before_counts_what_was_shown():
    shown = np.zeros(3, int)
    for position in range(1500):
        assert MIXED.images_before(position) == shown.tolist()
        shown[np.searchsorted([10, 110], MIXED.at(position).image, side="right")] += 1


def test_a_mixture_of_one_is_its_source():
    plain, alone = Shuffled(37, 5), Mixed((37,), (0.3,), 5)
    assert [plain.at(p) for p in range(3000)] == [alone.at(p) for p in range(3000)]
    assert plain.at(36, 1).epoch == 0


def mixture(**parts):
    return Mixture({name: (source, weight) for name, (source, weight) in parts.items()})


def batches(source, count, batch_size=16, start=0, **options):
    loader = TrainLoader(
        source,
        DataConfig(threads=1),
        size=8,
        batch_size=batch_size,
        seed=0,
        put=lambda batch: batch,
        next_example=start,
        **options,
    )
    try:
        return [next(loader) for _ in range(count)], loader.images_seen, loader.state()
    finally:
        loader.close()


def test_batches_hold_the_parts_by_weight_and_go_on_where_they_stopped():
    source = mixture(one=(Flat(1, 50), 3.0), two=(Flat(2, 9), 1.0))
    whole, seen, _ = batches(source, 64)
    values = np.concatenate([batch["image"][:, 0, 0, 0] for batch in whole])
    assert Counter(values.tolist()) == {1: 768, 2: 256}
    assert seen == {"one": 768, "two": 256}
    _, before, state = batches(source, 10)
    rest, _, _ = batches(source, 54, start=state["next_example"])
    for one, other in zip(whole[10:], rest, strict=True):
        np.testing.assert_array_equal(one["index"], other["index"])
        np.testing.assert_array_equal(one["image"], other["image"])
    assert sum(before.values()) == 160


def test_views_of_an_image_differ_from_epoch_to_epoch():
    order = order_of(mixture(one=(Flat(1, 4), 1.0), two=(Flat(2, 4), 1.0)), 8, 0)
    places = [order.at(p) for p in range(512)]
    assert len(set(places)) == 512


def test_classes_of_one_name_are_one():
    source = mixture(
        one=(Flat(1, 4, ("cat", "dog")), 1.0),
        two=(Flat(2, 4, ("dog", "emu")), 1.0),
        three=(Flat(3, 2, ()), 1.0),
    )
    assert source.class_names == ("cat", "dog", "emu")
    assert source.labels.tolist() == [0, 1, 0, 1, 1, 2, 1, 2, -1, -1]
    assert [int(source.read(i)["label"]) for i in range(10)] == source.labels.tolist()
    assert source.describe(5) == "flat 2 1"
    assert source.found.startswith("one, 33.3% of what is shown: flat images + two")


def test_who_renumbers_a_mixture_keeps_it_one_and_who_takes_a_part_does_not():
    source = mixture(one=(Flat(1, 4), 1.0), two=(Flat(2, 4), 3.0))
    called = renamed(source, {"a": "x"})
    assert called.proportions == source.proportions == {"one": (4, 1.0), "two": (4, 3.0)}
    assert not FewImages(source, 3).proportions


def test_what_stands_in_for_a_corrupt_image_is_of_the_same_part():
    source = mixture(one=(Flat(1, 6, corrupt=(0, 3)), 1.0), two=(Flat(2, 6), 1.0))
    views = TrainingViews(source, ViewConfig(), 8, 0, 8, range(8))
    plain = TrainingViews(
        mixture(one=(Flat(1, 6), 1.0), two=(Flat(2, 6), 1.0)), ViewConfig(), 8, 0, 8, range(8)
    )
    skipped = 0
    for position in range(200):
        found = views.example(position)
        assert found["image"][0, 0, 0] == plain.example(position)["image"][0, 0, 0]
        skipped += found["skipped"] >= 0
        assert found["index"] not in (0, 3)
    assert skipped > 10


def test_examples_that_hold_different_things_are_refused():
    other = Flat(2, 4)
    other.spec = {**other.spec, "segmentation": MaskSpec(("x",))}
    with pytest.raises(UserError, match=r"examples of two hold .*segmentation.* those of one"):
        mixture(one=(Flat(1, 4), 1.0), two=(other, 1.0))


def test_masks_of_other_classes_are_not_mixed():
    parts = {}
    for name, classes in (("a", ("sky", "sea")), ("b", ("sky", "land"))):
        source = Flat(1, 4)
        source.spec = source.spec | {"segmentation": MaskSpec(classes)}
        parts[name] = (source, 1.0)
    assert len(Mixture({"a": parts["a"], "c": parts["a"]})) == 8
    with pytest.raises(UserError, match="'segmentation' of b and of a has other classes"):
        Mixture(parts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "eval_source is missing"),
        ({"eval_source": "digits", "train_images": 5}, "train_images is of one source"),
    ],
)
def test_configs_that_do_not_suit_a_mixture_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DataConfig(mixture={"one": PartConfig(source="digits")}, **options)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_weights_are_above_nothing(weight):
    with pytest.raises(ValueError, match="weight must be a number from 1e-18"):
        PartConfig(source="digits", weight=weight)


@pytest.mark.parametrize("weights", [(1e-9, 1.0), (1e-18, 1e18), (1e15, 1e18)])
def test_a_part_that_is_hardly_shown_is_named(weights):
    parts = {n: PartConfig(source="digits", weight=w) for n, w in zip("ab", weights, strict=True)}
    config = DataConfig(mixture={**parts, "c": parts["b"]}, eval_source="digits", test_split=None)
    splits = config.open_splits(channels=1)
    (remark,) = splits.remarks()
    share = 100 * weights[0] / weights[1] / 2
    assert remark.startswith(f"a has {share:.2g}% of what is shown")
    assert f"a, {share:.2g}% of what is shown" in splits.train.found
    assert "; c, 50.0% of what is shown" in splits.train.found.replace(" + ", "; ")


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(20):
        path = tmp_path / "digits" / "train" / str(index % 10)
        path.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(path / f"{index}.png")
    return tmp_path / "digits"


def test_a_map_of_classes_may_be_for_one_part(tmp_path, folder):
    (tmp_path / "map.json").write_text(json.dumps({"0": "zero", "1": "one"}))
    for index in range(4):
        path = tmp_path / "words" / "train" / ("zero", "one")[index % 2]
        path.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(path / f"{index}.png")
    parts = {name: PartConfig(source=f"folder:{tmp_path / name}") for name in ("digits", "words")}
    config = DataConfig(
        mixture=parts, class_map=str(tmp_path / "map.json"), eval_source=f"folder:{folder}"
    )
    source = config.open_training(channels=1)
    assert source.class_names == ("zero", "one", *map(str, range(2, 10)))
    assert source.labels[-4:].tolist() == [1, 1, 0, 0]


def test_a_run_trains_on_a_mixture_and_logs_what_it_saw(tmp_path, folder):
    flags = [
        *arguments("pretrain/digits.py", tmp_path / "run"),
        "--config.data.mixture.scans.source=digits",
        "--config.data.mixture.scans.weight=3",
        f"--config.data.mixture.mine.source=folder:{folder}",
        "--config.data.eval_source=digits",
    ]
    done = run_command("pretrain", *flags)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    last = [row for row in rows if "train/images/mine" in row][-1]
    assert last["train/images/scans"] + last["train/images/mine"] == 10 * 32
    assert 60 <= last["train/images/mine"] <= 100
    assert re.search(r"mine, 25\.0% of what is shown: .* \+ scans, 75\.0%", done.stderr)


def test_processes_together_read_what_one_reads(tmp_path):
    """Batches of 12, of which the third to fifth are read; killed processes left off there."""
    config = pretrain_config(**three_formats(tmp_path)).data
    source = config.open_training(channels=1)

    def read(rows, start=24):
        loader = TrainLoader(
            source,
            config,
            size=8,
            batch_size=12,
            seed=0,
            put=lambda batch: batch,
            rows=rows,
            next_example=start,
        )
        with contextlib.closing(loader):
            return [next(loader) for _ in range(3)]

    whole = read(range(12))
    assert len({int(index) for batch in whole for index in batch["index"]}) > 20
    for processes in (1, 2, 3):
        parts = [read(range(12)[part * 12 // processes :][: 12 // processes])
                 for part in range(processes)]  # fmt: skip
        for number, batch in enumerate(whole):
            for name, array in batch.items():
                joined = np.concatenate([part[number][name] for part in parts])
                np.testing.assert_array_equal(joined, array)
