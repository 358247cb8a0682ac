"""Clips of a digit that moves: frames alone say nothing of a clip's class, their order does."""

import pickle
from itertools import pairwise, product

import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from distill.data import DataConfig, EvalLoader, ViewConfig
from distill.data.sequences import Frames, every_frame, open_sequences, sequences_name
from distill.errors import UserError

CLASSES = ("left", "right", "up", "down", "grow", "shrink")
# Of row, column and size, from a frame to the next.
STEPS = {
    "left": (0, -3, 0),
    "right": (0, 3, 0),
    "up": (-3, 0, 0),
    "down": (3, 0, 0),
    "grow": (0, 0, 1),
    "shrink": (0, 0, -1),
}
TORUS = (32, 32, 8)


@pytest.fixture(scope="module")
def motion():
    return open_sequences("textured_motion", "train", channels=3)


def images(sequences, index, frames=range(8)):
    return np.stack([one["image"] for one in sequences.read(index, frames)])


def test_what_a_clip_does_is_its_class(motion):
    assert motion.class_names == CLASSES and len(motion) == 2_400
    assert motion.found == "2,400 sequences of 19,200 frames in 6 classes"
    for index in range(60):
        assert motion.labels[index] == index % 6 and motion.frames(index) == 8
        states = motion.clip(index).states
        for before, after in pairwise(states):
            step = STEPS[CLASSES[index % 6]]
            expected = [(b + s) % t for b, s, t in zip(before, step, TORUS, strict=True)]
            assert [*after] == expected


def test_the_two_of_a_pair_have_the_same_frames_in_opposite_order(motion):
    for index in range(0, 48, 2):
        forwards, backwards = images(motion, index), images(motion, index + 1)
        np.testing.assert_array_equal(forwards, backwards[::-1])
        # So that nothing that does not look at their order tells one from the other.
        np.testing.assert_array_equal(forwards.sum(axis=0), backwards.sum(axis=0))
        assert len({one.tobytes() for one in forwards}) == 8


def test_a_frame_is_in_each_state_as_often_whatever_its_number_and_class(motion):
    starts = [*product(*map(range, TORUS))]
    for step in STEPS.values():
        for frame in range(8):
            turned = (np.array(starts) + frame * np.array(step)) % TORUS
            assert sorted(map(tuple, turned.tolist())) == starts
    # And starts are drawn evenly, as far as 400 clips of a class can show it: a quarter of them in
    # each quarter of the rows, columns and sizes, within five standard deviations.
    states = np.array([motion.clip(index).states for index in range(2_400)])
    for label, frame in product(range(6), (0, 3, 7)):
        for axis, sides in enumerate(TORUS):
            counts = np.bincount(states[label::6, frame, axis] * 4 // sides, minlength=4)
            assert abs(counts - 100).max() < 5 * np.sqrt(75)


def test_a_digit_is_drawn_over_the_edges_and_the_ground_stays(motion):
    crossing = 0
    for index in range(24):
        clip = motion.clip(index)
        number, top, left = clip.ground
        ground = load_sample_image(("china.jpg", "flower.jpg")[number])
        ground = (ground[top : top + 32, left : left + 32].astype(int) * 40 + 50) // 100
        for state, image in zip(clip.states, images(motion, index), strict=True):
            side = range(10, 18)[state.size]
            inside = np.zeros((32, 32), bool)
            rows = (state.row - side // 2 + np.arange(side)) % 32
            columns = (state.column - side // 2 + np.arange(side)) % 32
            inside[np.ix_(rows, columns)] = True
            np.testing.assert_array_equal(image[~inside], ground[~inside])
            # Ink is at least 160 bright, the ground at most 102.
            assert np.sum(image[inside].min(axis=-1) >= 160) >= side
            crossing += rows[-1] < rows[0] or columns[-1] < columns[0]
    assert crossing > 20


def test_splits_share_no_scan_and_no_pixel():
    seen = {}
    for split in ("train", "validation", "test"):
        clips = open_sequences("textured_motion", split, channels=1)
        scans = {clips.describe(index).split()[-1] for index in range(len(clips))}
        columns = [clips.clip(index).ground.left for index in range(len(clips))]
        seen[split] = scans, min(columns), max(columns) + 32
    assert seen["train"][0].isdisjoint(seen["validation"][0] | seen["test"][0])
    assert seen["validation"][0].isdisjoint(seen["test"][0])
    assert seen["train"][2] <= seen["validation"][1] < seen["validation"][2] <= seen["test"][1]


def test_clips_are_the_same_each_time(motion):
    longer = open_sequences("textured_motion?clips=6000", "train", channels=3)
    carried = pickle.loads(pickle.dumps(motion))  # noqa: S301
    assert len(longer) == len(longer.labels) == 6_000
    for index in (0, 5, 2_399):
        np.testing.assert_array_equal(images(longer, index), images(motion, index))
        np.testing.assert_array_equal(images(carried, index), images(motion, index))
    np.testing.assert_array_equal(images(motion, 1, [6, 2, 2])[2], images(motion, 1)[2])
    assert longer.fingerprint != motion.fingerprint
    assert open_sequences("textured_motion", "test", channels=3).fingerprint != motion.fingerprint
    assert motion.describe(2).startswith("textured_motion train clip 2 (up), of digits image ")
    assert motion.name(2) == "train/2"
    with pytest.raises(ValueError, match=r"clip 2 .* has 8 frames, and no frame 8"):
        motion.read(2, [8])


def test_frames_are_a_source_of_images():
    clips = open_sequences("textured_motion?clips=7", "validation", channels=1)
    assert len(every_frame(clips)) == 56
    frames = Frames(clips, np.array([[1, 3], [6, 0]]))
    view = ViewConfig(eval_crop=1.0)
    (batch,) = EvalLoader(frames, DataConfig(view=view), size=32, batch_size=2, put=lambda b: b)
    for row, index in enumerate(batch["index"].tolist()):
        np.testing.assert_array_equal(batch["image"][row], frames.read(index)["image"])
    assert sorted(batch["label"].tolist()) == [0, 1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("textured_motion?clips=0", r"\?clips=0: expected a whole number from 1"),
        ("textured_motion?size=64", r"names 'size'; expected textured_motion\?clips=NUMBER"),
        ("textured_motion:/data", "expected one of clips:PATH, videos:PATH, .*, textured_motion"),
        ("textured_motions", r"expected one of .*; did you mean .*textured_motion"),
        ("clips?clips=3:/data", "expected one of clips:PATH"),
        ("clips", "expected one of clips:PATH"),
    ],
)
def test_names_that_are_wrong_are_said(name, message):
    with pytest.raises(UserError, match=message):
        open_sequences(name, "train", channels=3)


def test_a_name_is_recorded_as_it_is():
    assert sequences_name("textured_motion?clips=12") == "textured_motion?clips=12"
    with pytest.raises(UserError, match="no split 'val'; it has train, validation, test"):
        open_sequences("textured_motion", "val", channels=3)
