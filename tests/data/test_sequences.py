"""Sequences of frames: which frames a clip has, folders of frames, and DAVIS' layout."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from distill.data import DataConfig, EvalLoader
from distill.data.sequences import (
    Frames,
    clip_frames,
    clip_starts,
    every_frame,
    last_start,
    open_sequences,
    sequences_name,
)
from distill.data.sources.base import CorruptImage, MissingSplit
from distill.data.sources.layout import hashed
from distill.errors import RunFailed, UserError


def frame(path, shade, height=4, width=6):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), shade, np.uint8)).save(path)


def shades(examples):
    return [int(np.asarray(one["image"])[0, 0, 0]) for one in examples]


@pytest.mark.parametrize(
    ("length", "frames", "stride", "start", "expected"),
    [
        (10, 4, 2, 0, [0, 2, 4, 6]),
        (10, 4, 2, 3, [3, 5, 7, 9]),
        (10, 4, 2, 5, [5, 7, 9, 1]),
        (3, 5, 1, 0, [0, 1, 2, 0, 1]),
        (3, 4, 2, 0, [0, 2, 1, 0]),
        (1, 3, 4, 0, [0, 0, 0]),
    ],
)
def test_a_clip_that_ends_too_soon_begins_again(length, frames, stride, start, expected):
    assert clip_frames(length, frames, stride, start).tolist() == expected
    # As of the sequence repeated.
    repeated = np.tile(np.arange(length), 100)
    assert repeated[start : start + frames * stride : stride].tolist() == expected


def test_clips_begin_evenly_and_end_with_their_sequence():
    assert last_start(10, 4, 2) == 3 and last_start(6, 4, 2) == 0
    starts = clip_starts(100, 8, 2, 4)
    assert starts.tolist() == [0, 28, 56, 85]
    assert clip_frames(100, 8, 2, starts[-1])[-1] == 99
    assert clip_starts(100, 8, 2, 1).tolist() == [42]
    assert clip_starts(5, 8, 2, 3).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="at least 1"):
        clip_frames(0, 3)


@pytest.fixture
def clips(tmp_path):
    """Of frames whose numbers are no names in order; their shade is their number."""
    for name, count in (("jump/one", 12), ("jump/two", 2), ("walk/deep/three", 3)):
        for number in range(count):
            frame(tmp_path / "train" / name / f"img_{number}.png", number)
    (tmp_path / "train" / "walk" / "empty").mkdir()
    (tmp_path / "train" / "walk" / "notes.txt").touch()
    return tmp_path


def test_frames_of_a_folder_are_in_the_order_of_their_numbers(clips):
    found = open_sequences(f"clips:{clips}", "train", channels=3)
    assert found.class_names == ("jump", "walk") and found.labels.tolist() == [0, 0, 1]
    assert [found.frames(n) for n in range(3)] == [12, 2, 3]
    assert [found.name(n) for n in (0, 2)] == ["train/jump/one", "train/walk/deep/three"]
    said = "3 sequences of 17 frames in 2 classes; left out 1 clip without frames, 1 .txt"
    assert found.found == said
    assert shades(found.read(0, range(12))) == [*range(12)]
    assert shades(found.read(1, clip_frames(2, 5))) == [0, 1, 0, 1, 0]
    assert {int(one["label"]) for one in found.read(2, [2, 0])} == {1}
    with pytest.raises(ValueError, match=r"jump/two has 2 frames, and no frame 2"):
        found.read(1, [2])


def test_a_broken_frame_is_named_and_the_others_are_read(clips):
    broken = clips / "train" / "jump" / "one" / "img_3.png"
    broken.write_bytes(broken.read_bytes()[:40])
    found = open_sequences(f"clips:{clips}", "train", channels=3)
    with pytest.raises(CorruptImage, match=r"jump/one/img_3\.png: "):
        found.read(0, [2, 3])
    assert shades(found.read(0, [2, 4])) == [2, 4]


def test_splits_are_drawn_of_clips_and_not_of_frames(tmp_path):
    for clip in range(20):
        for number in range(3):
            frame(tmp_path / "jump" / f"{clip}" / f"{number}.png", 0)
    splits = ("train", "validation", "test")
    opened = [open_sequences(f"clips:{tmp_path}", split, channels=1) for split in splits]
    names = [[one.name(n) for n in range(len(one))] for one in opened]
    assert sorted(name for some in names for name in some) == sorted(
        f"jump/{clip}" for clip in range(20)
    )
    assert all(one.frames(n) == 3 for one in opened for n in range(len(one)))
    drawn = hashed([name.encode() for name in names[0]]) / 2.0**64
    assert len(drawn) > 10 and (drawn < 0.8).all()


def test_images_in_the_folder_of_a_class_are_no_clips(tmp_path):
    frame(tmp_path / "train" / "jump" / "0.png", 0)
    with pytest.raises(UserError, match=r"jump holds images, where folders of frames are expected"):
        open_sequences(f"clips:{tmp_path}", "train", channels=3)
    (tmp_path / "train" / "jump" / "0.png").unlink()
    with pytest.raises(MissingSplit, match="no clips in"):
        open_sequences(f"clips:{tmp_path}", "train", channels=3)


def test_chosen_frames_are_a_source_that_loaders_take(clips):
    found = open_sequences(f"clips:{clips}", "train", channels=3)
    chosen = [(0, 11), (0, 4), (2, 1)]
    frames = Frames(found, np.array(chosen))
    source = pickle.loads(pickle.dumps(frames))  # noqa: S301
    assert shades(map(source.read, range(3))) == [11, 4, 1]
    assert source.labels.tolist() == [0, 0, 1] and source.name(1) == "train/jump/one#4"
    assert source.describe(1).endswith("jump/one frame 4")
    loader = EvalLoader(source, DataConfig(), size=4, batch_size=4, put=lambda batch: batch)
    (batch,) = loader
    assert batch["image"][:3, 0, 0, 0].tolist() == [11, 4, 1]
    assert batch["mask"].tolist() == [True, True, True, False]
    every = every_frame(found)
    assert shades(map(every.read, range(17))) == [*range(12), *range(2), *range(3)]
    assert every.fingerprint != source.fingerprint


class Counted:
    """Sequences of which each read is noted, as of videos."""

    decodes_from_start = True
    class_names = ()
    spec = None
    labels = np.full(9, -1, np.int32)

    def __init__(self):
        self.asked = []

    def read(self, index, frames):
        self.asked.append((index, list(frames)))
        return [(index, int(one)) for one in frames]


def test_a_video_is_decoded_once_for_all_its_chosen_frames():
    chosen = [(sequence, one) for sequence in (3, 1) for one in (5, 2, 5)]
    counted = Counted()
    source = Frames(counted, np.array(chosen))
    with ThreadPoolExecutor(6) as threads:
        assert [*threads.map(source.read, range(6))] == chosen
    assert sorted(counted.asked) == [(1, [2, 5]), (3, [2, 5])]


@pytest.fixture
def davis(tmp_path):
    for name, objects in (("bear", 1), ("dogs", 2), ("unused", 1)):
        for number in range(3):
            frame(tmp_path / "JPEGImages" / "480p" / name / f"{number:05}.jpg", 100 + number)
            path = tmp_path / "Annotations" / "480p" / name / f"{number:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            numbers = np.zeros((4, 6), np.uint8)
            numbers[number, :objects] = range(1, objects + 1)
            made = Image.fromarray(numbers)
            made.putpalette([7] * 768)
            made.save(path)
    lists = tmp_path / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("dogs\nbear\n")
    return tmp_path


def test_davis_has_an_object_for_each_pixel_of_each_frame(davis):
    found = open_sequences(f"davis:{davis}", "val", channels=3)
    assert [found.name(n) for n in (0, 1)] == ["dogs", "bear"] and found.frames(0) == 3
    assert found.describe(1).endswith("JPEGImages/480p/bear")
    first, last = found.read(0, [0, 2])
    expected = np.zeros((2, 4, 6), np.uint8)
    expected[0, 0, :2] = expected[1, 2, :2] = 1, 2
    np.testing.assert_array_equal([first["segmentation"], last["segmentation"]], expected)
    assert found.found == "2 sequences of 6 frames"


def test_what_is_missing_of_davis_is_named(davis):
    mask = davis / "Annotations" / "480p" / "bear" / "00001.png"
    Image.fromarray(np.zeros((3, 6), np.uint8)).save(mask)
    found = open_sequences(f"davis:{davis}", "val", channels=3)
    with pytest.raises(RunFailed, match=r"bear/00001\.png has 6×3 pixels, .*00001\.jpg has 6×4"):
        found.read(1, [1])
    mask.unlink()
    with pytest.raises(UserError, match=r"1 image without mask: JPEGImages/480p/bear/00001\.jpg"):
        open_sequences(f"davis:{davis}", "val", channels=3)
    (davis / "ImageSets" / "2017" / "val.txt").write_text("cats\n")
    with pytest.raises(UserError, match="480p/cats holds no frames"):
        open_sequences(f"davis:{davis}", "val", channels=3)
    with pytest.raises(MissingSplit, match=r"no list test\.txt; it has val"):
        open_sequences(f"davis:{davis}", "test", channels=3)
    with pytest.raises(UserError, match="2160p/cats holds no frames"):
        open_sequences(f"davis:{davis}?resolution=2160p", "val", channels=3)


def test_a_set_of_sequences_has_a_known_kind_and_a_path():
    assert sequences_name("davis:/data/d?resolution=480p") == "davis:/data/d?resolution=480p"
    with pytest.raises(UserError, match=r"expected one of clips:PATH, .*textured_motion; did"):
        sequences_name("clip:/data")


def test_a_slice_is_refused_with_the_split_it_is_of(tmp_path):
    with pytest.raises(UserError, match=r"train\[:50%\] is a slice.*such as train$"):
        open_sequences(f"clips:{tmp_path}", "train[:50%]", channels=3)
