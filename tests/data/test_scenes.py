"""Scenes of digits side by side: what is drawn, named and shared, and what is not."""

import math
import pickle

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_sample_image

from distill.data import open_source
from distill.errors import UserError

SPLITS = ("train", "validation", "test")


def opened(split="train", options="", channels=3):
    return open_source(f"scenes{options}", split, channels=channels)


@pytest.fixture(scope="module")
def digits():
    return load_digits()


def scan_numbers(source, index):
    """Those in `load_digits()` of a scene's digits, as its description says."""
    return [
        int(one) for one in source.describe(index).split("images ")[1].split(" on ")[0].split(", ")
    ]


def turned(scan, side, degrees):
    """A scan of 0 to 16 as levels up to 255, turned against the clock, at another size."""
    levels, out, angle = np.round(scan * (255 / 16)), np.zeros((side, side)), math.radians(degrees)
    for row in range(side):
        for column in range(side):
            # From the middle, right and up, back by the angle, and to the scan's pixels.
            right, up = (column + 0.5) / side - 0.5, 0.5 - (row + 0.5) / side
            x = math.cos(angle) * right + math.sin(angle) * up
            y = math.cos(angle) * up - math.sin(angle) * right
            u, v = x * 8 + 3.5, 3.5 - y * 8
            for i in (math.floor(v), math.floor(v) + 1):
                for j in (math.floor(u), math.floor(u) + 1):
                    if 0 <= i < 8 and 0 <= j < 8:
                        out[row, column] += (1 - abs(v - i)) * (1 - abs(u - j)) * levels[i, j]
    return out


@pytest.mark.parametrize(
    "options", ["", "?difficulty=0", "?digits=1&difficulty=2", "?digits=3&size=64"]
)
def test_images_are_what_is_composed(digits, options):
    for split in SPLITS:
        source = opened(split, options)
        for index in (0, 5, 999):
            ground, clutter, pieces = source.layout(index)
            assert not clutter
            example = source.read(index)
            size = example["image"].shape[0]
            photograph = load_sample_image(("china.jpg", "flower.jpg")[ground.photograph])
            light = 0.0 if "difficulty=0" in options else 0.28
            image = photograph[ground.top :, ground.left :][:size, :size] * light
            for number, piece in zip(scan_numbers(source, index), pieces, strict=True):
                cover = 2 * turned(digits.images[number], piece.side, 4 * piece.turn)
                share = np.minimum(cover, 255)[..., None] / 255
                place = np.s_[piece.top :, piece.left :]
                part = image[place][: piece.side, : piece.side]
                part[:] = part * (1 - share) + share * np.array(piece.ink)
            # Weights of whole 256ths, twice as strong, and whole levels of what is mixed.
            assert np.abs(example["image"] - image).max() < 5
            label = int("".join(str(digits.target[one]) for one in scan_numbers(source, index)))
            assert example["label"] == source.labels[index] == label
            assert int(source.class_names[label]) == label


def test_what_is_drawn_keeps_to_its_column_and_to_the_difficulty():
    for difficulty in range(6):
        source = opened(options=f"?difficulty={difficulty}")
        layouts = [source.layout(index) for index in range(300)]
        pieces = [piece for layout in layouts for piece in layout.digits]
        for layout in layouts:
            assert len(layout.clutter) == max(0, difficulty - 2)
            for number, piece in enumerate(layout.digits):
                assert 12 * number <= piece.left and piece.left + piece.side <= 12 * (number + 1)
                assert piece.top >= 0 and piece.top + piece.side <= 24
        assert {abs(piece.turn) for piece in pieces} == set(range(2 * difficulty + 1))
        assert max(piece.side for piece in pieces) == 12
        assert min(piece.side for piece in pieces) == 12 * (100 - 6 * difficulty) // 100
        assert min(min(piece.ink) for piece in pieces) >= 255 - 24 * difficulty
        assert max(max(piece.ink) for piece in pieces) == 255


def test_clutter_is_behind_the_digits_and_half_as_strong():
    plain, cluttered = (opened(options=f"?difficulty={one}&digits=1") for one in (2, 3))
    assert plain.layout(0).clutter == () and len(cluttered.layout(0).clutter) == 1
    differs = 0
    for index in range(50):
        (piece,) = cluttered.layout(index).digits
        cover = cluttered._cover(piece)
        place = np.s_[piece.top : piece.top + piece.side, piece.left : piece.left + piece.side]
        # Where the digit is opaque, its ink is all there is.
        assert (cluttered.read(index)["image"][place][cover == 255] == piece.ink).all()
        (behind,) = cluttered.layout(index).clutter
        differs += behind.scan != piece.scan
    assert differs > 40


def test_the_first_scenes_are_the_same_however_many_are_asked_for():
    few, many = (opened(options=f"?images={images}") for images in (100, 30_000))
    assert len(few) == 100 and many.found == "30,000 images in 100 classes"
    np.testing.assert_array_equal(many.labels[:100], few.labels)
    for index in (0, 99):
        np.testing.assert_array_equal(many.read(index)["image"], few.read(index)["image"])
    counts = np.bincount(many.labels, minlength=100)
    assert counts.min() > 200 and counts.max() < 420
    images = {many.read(index)["image"].tobytes() for index in range(2_000)}
    assert len(images) == 2_000


def test_a_seed_draws_others_and_splits_share_no_scan_and_no_pixel():
    one, other = opened(), opened(options="?seed=1")
    assert (one.labels != other.labels).mean() > 0.9 and one.fingerprint != other.fingerprint
    numbers, columns = {}, {}
    for split in SPLITS:
        source = opened(split)
        numbers[split] = {n for i in range(500) for n in scan_numbers(source, i)}
        lefts = [source.layout(index).ground.left for index in range(500)]
        columns[split] = (min(lefts), max(lefts) + 24)
    assert not numbers["train"] & numbers["validation"] and not numbers["train"] & numbers["test"]
    assert not numbers["validation"] & numbers["test"]
    assert columns["train"][1] <= 384 <= columns["validation"][0]
    assert columns["validation"][1] <= 512 <= columns["test"][0]


def test_it_goes_to_other_processes_and_is_in_grey_too():
    source = opened(options="?difficulty=4", channels=1)
    again = pickle.loads(pickle.dumps(source))  # noqa: S301
    assert source.read(3)["image"].shape == (24, 24, 1)
    np.testing.assert_array_equal(again.read(3)["image"], source.read(3)["image"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("?digits=4", "from 1 to 3"),
        ("?difficulty=6", "from 0 to 5"),
        ("?digits=3&size=20", "from 24 to 128"),
        ("?size=129", "from 16 to 128"),
        ("?seed=-1", "from 0 to"),
        ("?hardness=2", "digits=NUMBER&size=PIXELS"),
    ],
)
def test_options_out_of_bounds_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        opened(options=options)


def test_a_split_that_is_not_there_is_named():
    with pytest.raises(UserError, match="no split 'dev'; it has train, validation, test"):
        opened("dev")
