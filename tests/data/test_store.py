"""Stores: what is written is read again, interruptions cost a file, and damage is named."""

import dataclasses
import random
import types

import numpy as np
import pytest

from distill.data import Contents, DataConfig, Store, StoreWriter, TrainLoader, ViewConfig
from distill.data.examples import STORED, TrainingViews
from distill.data.sources import CorruptImage, open_source
from distill.errors import Damaged, RunFailed, UserError

COUNT, BATCH, SIZE, SEED = 24, 4, 8, 5
EXAMPLES = 20
CONTENTS = Contents(
    examples=EXAMPLES,
    batch_size=BATCH,
    examples_per_file=8,
    arrays={"logits/teacher": ("float32", (3,)), "scale": ("float16", ())},
    about={"views": {"classes": ["a"]}},
)


@pytest.fixture(scope="module")
def source(image_folder):
    return open_source(f"folder:{image_folder}", "train", channels=3)


def drawn(source, **options):
    return TrainingViews(source, ViewConfig(), SIZE, SEED, BATCH, range(BATCH), **options)


def records(source):
    found = np.zeros(EXAMPLES, CONTENTS.record)
    described = drawn(source, describe=True)
    for position in range(EXAMPLES):
        example = described.example(position)
        for field in ("epoch", "index", "box", "flip"):
            found[position][field] = example[field]
    rng = np.random.default_rng(0)
    found["logits/teacher"] = rng.standard_normal((EXAMPLES, 3))
    found["scale"] = rng.standard_normal(EXAMPLES)
    return found


def write(path, written, contents=CONTENTS):
    writer = StoreWriter(path, contents)
    for start in range(writer.position, len(written), BATCH):
        writer.write(written[start : start + BATCH])
    writer.close()


@pytest.fixture
def store(source, tmp_path):
    write(tmp_path, records(source))
    return Store(tmp_path)


def test_records_are_read_as_they_were_written(source, store):
    assert len(store) == EXAMPLES
    assert store.contents == CONTENTS
    names = sorted(file.name for file in store.path.iterdir())
    assert names == ["store.json", *(f"targets-0000{n}-of-00003.array_record" for n in range(3))]
    for position, expected in enumerate(records(source)):
        assert store.read(position) == expected


def test_a_replay_shows_the_views_that_were_drawn_in_a_circle(source, store):
    live, replay = drawn(source), drawn(source, store=store)
    for position in range(2 * EXAMPLES + 3):
        example, again = live.example(position % EXAMPLES), replay.example(position)
        arrays = {name: again.pop(name) for name in [*again] if name.startswith(STORED)}
        assert again.keys() == example.keys()
        assert all(np.array_equal(again[name], example[name]) for name in example)
        expected = records(source)[position % EXAMPLES]
        assert arrays.keys() == {STORED + "logits/teacher", STORED + "scale"}
        np.testing.assert_array_equal(arrays[STORED + "logits/teacher"], expected["logits/teacher"])


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_loaders_replay_from_anywhere(source, store, workers):
    config = DataConfig(workers=workers)
    options = dict(size=SIZE, batch_size=BATCH, seed=SEED, put=lambda batch: batch, store=store)
    loader = TrainLoader(source, config, next_example=2 * BATCH, **options)
    batches = [next(loader) for _ in range(4)]
    loader.close()
    expected = records(source)
    for number, batch in enumerate(batches):
        rows = np.arange((2 + number) * BATCH, (3 + number) * BATCH) % EXAMPLES
        np.testing.assert_array_equal(batch["index"], expected["index"][rows])
        np.testing.assert_array_equal(batch[STORED + "scale"], expected["scale"][rows])


@pytest.mark.parametrize("done, position", [(0, 0), (4, 0), (8, 8), (12, 8), (16, 16)])
def test_an_interrupted_store_goes_on_after_its_last_whole_file(source, tmp_path, done, position):
    expected = records(source)
    first = StoreWriter(tmp_path, CONTENTS)
    first.write(expected[:done])
    # The process is killed: nobody closes the writer.
    del first
    with pytest.raises(UserError, match=r"not complete: .* of 3 files are missing"):
        Store(tmp_path)
    assert StoreWriter(tmp_path, CONTENTS).position == position
    write(tmp_path, expected)
    store = Store(tmp_path)
    assert [store.read(p) for p in range(EXAMPLES)] == list(expected)
    assert not [file for file in tmp_path.iterdir() if "unfinished" in file.name]


@pytest.mark.parametrize("change", ["flipped", "cut", "another"])
def test_a_finished_file_that_is_damaged_is_named_before_the_store_goes_on(
    source, tmp_path, change
):
    first = StoreWriter(tmp_path, CONTENTS)
    first.write(records(source)[:16])
    first.check()
    del first
    file = tmp_path / CONTENTS.file(1)
    content = bytearray(file.read_bytes())
    if change == "flipped":
        place = content.index(records(source)[9].tobytes()) + 5
        content[place] ^= 1
    elif change == "cut":
        del content[len(content) // 2 :]
    file.write_bytes(content)
    if change == "another":
        shorter = dataclasses.replace(CONTENTS, examples=4)
        (tmp_path / "other").mkdir()
        write(tmp_path / "other", records(source)[:4], shorter)
        (tmp_path / "other" / shorter.file(0)).replace(file)
    with pytest.raises(Damaged, match=rf"{file.name} is damaged: .*delete it and run"):
        StoreWriter(tmp_path, CONTENTS).check()
    file.unlink()
    write(tmp_path, records(source))
    assert [Store(tmp_path).read(p) for p in range(EXAMPLES)] == list(records(source))


def test_a_store_with_other_contents_is_refused(source, store):
    other = dataclasses.replace(CONTENTS, examples=16, about={"views": {"classes": ["b"]}})
    with pytest.raises(UserError, match=r"holds other targets \(about, examples differ\)"):
        StoreWriter(store.path, other)


def test_a_complete_store_has_nothing_left_to_write(store):
    assert StoreWriter(store.path, CONTENTS).position == EXAMPLES


def test_damage_is_named(source, store):
    file = store.path / CONTENTS.file(1)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Damaged, match=rf"{file} is damaged: .*delete it and run the"):
        Store(store.path)
    place = whole.index(records(source)[8].tobytes())
    file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(Damaged, match=rf"{file} is damaged: .*run the store_targets command again"):
        [Store(store.path).read(position) for position in range(EXAMPLES)]
    file.unlink()
    with pytest.raises(UserError, match=r"1 of 3 files are missing, the first is targets-00001"):
        Store(store.path)


def test_no_flipped_bit_of_a_store_is_read_as_something_else(store):
    def everything():
        opened = Store(store.path)
        return opened.contents, [bytes(opened.read(p).tobytes()) for p in range(EXAMPLES)]

    expected, draw, refused = everything(), random.Random(0), 0
    for file in sorted(store.path.iterdir()):
        content = file.read_bytes()
        # The rest of a file is zeros.
        written = [place for place, byte in enumerate(content) if byte]
        for place in draw.sample(written, 40):
            changed = bytearray(content)
            changed[place] ^= 1 << draw.randrange(8)
            file.write_bytes(changed)
            try:
                assert everything() == expected, (file, place)
            except Damaged:
                refused += 1
        file.write_bytes(content)
    assert refused > 100


@pytest.mark.parametrize("text", ["{}", "[]", '{"examples": 3}', "not json"])
def test_a_damaged_description_is_named(store, text):
    (store.path / "store.json").write_text(text)
    with pytest.raises(UserError, match=r"store\.json is"):
        Store(store.path)


def test_a_directory_without_a_store_is_named(tmp_path):
    with pytest.raises(UserError, match=r"holds no stored targets: it has no store\.json"):
        Store(tmp_path)


def test_an_image_that_has_become_unreadable_stops_the_replay(source, store):
    class Broken:
        class_names, spec = source.class_names, source.spec

        def __len__(self):
            return len(source)

        def read(self, index):
            raise CorruptImage("truncated")

        def describe(self, index):
            return f"image {index}"

    with pytest.raises(RunFailed, match=r"cannot be decoded \(truncated\), but could when"):
        drawn(Broken(), store=store).example(0)


def test_a_store_that_the_disk_has_no_room_for_is_refused_and_what_is_written_counts(
    source, tmp_path, monkeypatch
):
    write(tmp_path, records(source)[:8])
    left = (EXAMPLES - 8) * CONTENTS.record.itemsize
    for free in (left, left - 1):
        disk = types.SimpleNamespace(free=free)
        monkeypatch.setattr("shutil.disk_usage", lambda path, disk=disk: disk)
        if free == left:
            assert StoreWriter(tmp_path, CONTENTS).position == 8
            continue
        with pytest.raises(UserError, match=r"GiB free\. Store fewer \(config\.store\.epochs\)"):
            StoreWriter(tmp_path, CONTENTS)
