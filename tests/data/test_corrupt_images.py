import functools
import io
import itertools
import logging

import numpy as np
import pytest
from PIL import Image

from distill.data import DataConfig, EvalLoader, TrainLoader, ViewConfig, open_source
from distill.data.examples import TrainingViews
from distill.data.loader import CorruptionMonitor
from distill.data.order import shuffled_index
from distill.data.sources import CorruptImage
from distill.errors import RunFailed

COUNT = 24


def encoded(suffix, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, {"jpg": "jpeg"}.get(suffix, suffix))
    return data.getvalue()


def half(suffix):
    data = encoded(suffix)
    return data[: len(data) // 2]


def changed_png():
    data = bytearray(encoded("png"))
    data[len(data) // 2] ^= 0xFF
    return bytes(data)


def wrong_length_png():
    """The first chunk of pixels says it is one byte long; Pillow answers with a SyntaxError."""
    data = encoded("png")
    start = data.index(b"IDAT") - 4
    return data[:start] + (1).to_bytes(4, "big") + data[start + 4 :]


DAMAGED = {
    "empty.jpg": b"",
    "empty.png": b"",
    "text.jpg": b"<html>404 Not Found</html>\n",
    "truncated.jpg": half("jpg"),
    "truncated.png": half("png"),
    "truncated.webp": half("webp"),
    "header.jpg": encoded("jpg")[:20],
    "header.png": encoded("png")[:20],
    "changed.png": changed_png(),
    "chunk.png": wrong_length_png(),
    "zeros.jpg": bytes(500),
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("channels", [1, 3])
def test_damaged_file_is_recognised(tmp_path, name, channels):
    (tmp_path / "train" / "x").mkdir(parents=True)
    (tmp_path / "train" / "x" / name).write_bytes(DAMAGED[name])
    source = open_source(f"folder:{tmp_path}", "train", channels=channels)
    with pytest.raises(CorruptImage):
        source.read(0)


@pytest.fixture
def make(tmp_path):
    """Makes a folder of COUNT images, some of them damaged, and opens it."""

    def build(damaged):
        kinds = itertools.cycle(DAMAGED[name] for name in DAMAGED if name.endswith("png"))
        for index in range(COUNT):
            path = tmp_path / "train" / f"class{index // 8}" / f"{index:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(next(kinds) if index in damaged else encoded("png", index))
        return open_source(f"folder:{tmp_path}", "train", channels=3)

    return build


def training(source, share, **options):
    config = DataConfig(max_corrupt_share=share, view=ViewConfig(flip=False))
    return TrainLoader(
        source, config, size=8, batch_size=8, seed=0, put=lambda batch: batch, **options
    )


@functools.cache
def order():
    """The images of the first epoch."""
    return [shuffled_index(place, COUNT, 0, 0) for place in range(COUNT)]


@pytest.mark.parametrize("places", [[4], [4, 5, 6], [0], [COUNT - 1]])
def test_next_readable_image_of_the_epoch_stands_in(make, places):
    damaged = {order()[place] for place in places}
    views = TrainingViews(make(damaged), ViewConfig(), 8, 0, 8, range(8))
    for place in range(COUNT):
        example = views.example(place)
        later = [order()[(place + step) % COUNT] for step in range(COUNT)]
        stand_in = next(index for index in later if index not in damaged)
        assert example["index"] == stand_in
        assert example["label"] == stand_in // 8
        assert example["mask"]
        assert example["skipped"] == (order()[place] if order()[place] in damaged else -1)


def test_other_examples_are_the_same_as_without_damage(make, tmp_path):
    intact = [
        TrainingViews(make(set()), ViewConfig(), 8, 0, 8, range(8)).example(i) for i in range(COUNT)
    ]
    views = TrainingViews(make({3}), ViewConfig(), 8, 0, 8, range(8))
    for place, index in enumerate(order()):
        if index != 3:
            np.testing.assert_array_equal(views.example(place)["image"], intact[place]["image"])


def test_skipped_images_are_counted(make):
    loader = training(make({3, 11}), share=1.0, ahead=1)
    for _ in range(6):  # Two epochs.
        next(loader)
    loader.close()
    # One batch may be ready beyond the two epochs.
    assert loader.state()["skipped"] == loader.found
    assert 4 <= loader.found <= 6


def test_a_process_judges_its_own_share_of_what_was_met_before(make):
    # Half of 40 images were corrupt; 20 images and 10 corrupt ones are this process's share.
    loader = training(
        make(set(range(8))), share=0.45, ahead=1, rows=range(4), next_example=40, skipped=20
    )
    with pytest.raises(RunFailed, match=r"1[0-4] of 24 images"):
        next(loader)
    loader.close()


def test_state_adds_what_all_processes_found_to_what_was_met_before(make):
    loader = training(make(set()), share=1.0, rows=range(4), next_example=40, skipped=20)
    next(loader)
    loader.close()
    assert loader.state() == {"next_example": 48, "skipped": 20}
    assert loader.state(found=3) == {"next_example": 48, "skipped": 23}


def test_each_corrupt_file_is_named_once_in_the_log(make, caplog):
    source = make({3, 11})
    with caplog.at_level(logging.WARNING, logger="absl"):
        loader = training(source, share=1.0)
        for _ in range(9):
            next(loader)
        loader.close()
    messages = [record.getMessage() for record in caplog.records if record.name == "absl"]
    assert len(messages) == 2
    for index in (3, 11):
        assert sum(source.describe(index) in message for message in messages) == 1


def test_run_goes_on_below_the_allowed_share(make):
    loader = training(make({3}), share=0.2)
    for _ in range(12):
        next(loader)
    loader.close()


def test_run_stops_above_the_allowed_share(make):
    source = make({1, 3, 5, 7, 9, 11})
    loader = training(source, share=0.1)
    with pytest.raises(RunFailed, match=r"could not be decoded.*max_corrupt_share") as caught:
        for _ in range(12):
            next(loader)
    loader.close()
    assert any(source.describe(i) in str(caught.value) for i in (1, 3, 5, 7, 9, 11))
    assert caught.value.exit_code == 1


def test_one_corrupt_image_in_a_first_small_batch_is_forgiven(make):
    first = order()[0]
    loader = training(make({first}), share=0.01)
    assert first not in next(loader)["index"]
    loader.close()


def test_share_of_zero_forgives_nothing(make):
    loader = training(make({order()[0]}), share=0.0)
    with pytest.raises(RunFailed):
        next(loader)
    loader.close()


def test_share_is_counted_over_all_images_read():
    class Named:
        def __len__(self):
            return 100

        def describe(self, index):
            return f"image {index}"

        def read(self, index):
            raise CorruptImage("truncated")

    monitor = CorruptionMonitor(Named(), 0.1)

    def check(*skipped):
        """Of a batch of ten images and two rows that fill it up."""
        rows = np.array([*skipped, *[-1] * (12 - len(skipped))])
        monitor.check({"skipped": rows, "mask": (np.arange(12) < 10) & (rows < 0)})

    for _ in range(10):
        check()
    for _ in range(10):
        check(7)  # At last 10 of 200 …
    for _ in range(1, 11):
        check(7, 8)  # … and 30 of 300 are a tenth.
    assert monitor.found == 30
    with pytest.raises(RunFailed, match=r"32 of 310.*image 9"):
        check(7, 9)


def test_folder_without_a_readable_image_stops_the_run(make):
    loader = training(make(set(range(COUNT))), share=1.0)
    with pytest.raises(RunFailed, match="in a row cannot be decoded"):
        next(loader)
    loader.close()


def evaluation(source, share):
    config = DataConfig(max_corrupt_share=share)
    return EvalLoader(source, config, size=8, batch_size=10, put=lambda batch: batch)


def test_evaluation_masks_corrupt_images_out(make):
    found = list(evaluation(make({0, 13}), share=0.5))
    mask = np.concatenate([batch["mask"] for batch in found])
    index = np.concatenate([batch["index"] for batch in found])
    label = np.concatenate([batch["label"] for batch in found])
    expected = [i for i in range(COUNT) if i not in (0, 13)]
    assert index[mask].tolist() == expected
    assert label[mask].tolist() == [i // 8 for i in expected]
    assert [len(batch["image"]) for batch in found] == [10, 10, 10]


def test_evaluation_names_each_corrupt_file(make, caplog):
    source = make({0, 13})
    with caplog.at_level(logging.WARNING, logger="absl"):
        list(evaluation(source, share=0.5))
    messages = "\n".join(r.getMessage() for r in caplog.records if r.name == "absl")
    assert messages.count(source.describe(0)) == messages.count(source.describe(13)) == 1


def test_evaluation_stops_above_the_allowed_share(make):
    with pytest.raises(RunFailed, match="could not be decoded"):
        list(evaluation(make({0, 1, 2, 3, 4, 5}), share=0.1))
