"""Scenes of two digits: what is seen in them is what their captions say."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from support import REPOSITORY

from distill.config import load_file
from distill.data import open_source
from distill.data.sources import captions_of
from distill.data.tokens import open_tokenizer
from distill.errors import UserError

SIZES = {
    "train": 16_000,
    "validation": 1_600,
    "test": 1_600,
    "heldout_validation": 800,
    "heldout_test": 800,
}
DIGITS = "zero one two three four five six seven eight nine".split()


@pytest.fixture(scope="module")
def scenes():
    return {s: open_source("digit_scenes", s, channels=1, captions=True) for s in SIZES}


@pytest.fixture(scope="module")
def scans():
    """The number and the digit of each scan, by its pixels."""
    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    return {one.tobytes(): (n, digits.target[n]) for n, one in enumerate(pixels)}


def found_in(image, scans):
    """Each scan that is somewhere in a scene: its number, its digit, its row and its column."""
    windows = np.lib.stride_tricks.sliding_window_view(image[..., 0], (8, 8))
    return [
        (*scans[windows[row, column].tobytes()], row, column)
        for row, column in np.ndindex(windows.shape[:2])
        if windows[row, column].tobytes() in scans
    ]


def said(caption):
    """The digits that a caption names, in its order."""
    return [DIGITS.index(word) for word in caption.split() if word in DIGITS]


def test_captions_say_which_digits_are_where(scenes, scans):
    places = set()
    for source in scenes.values():
        for index in range(0, len(source), len(source) // 80 + 1):
            # From the top to the bottom, and so from the left to the right but for places drawn.
            one, other = found_in(source.read(index)["image"], scans)
            beside = abs(other[3] - one[3]) >= 8
            assert beside != (other[2] - one[2] >= 8)
            if beside:
                one, other = sorted((one, other), key=lambda found: found[3])
            plain, longer = captions_of(source, index)
            assert said(plain) == said(longer) == [one[1], other[1]]
            assert [words in plain for words in ("left of", "above")] == [beside, not beside]
            assert [words in longer for words in ("right of", "below")] == [beside, not beside]
            assert source.class_names[source.labels[index]] == plain
            assert source.describe(index).endswith(f" of digits images {one[0]} and {other[0]}")
            places.add((beside, other[2] - one[2], other[3] - one[3]))
    # All that two pixels to each side make of them.
    assert len(places) == 2 * 25


def test_combinations_held_out_are_of_digits_that_are_never_trained_on_together(scenes):
    shown = {split: {*source.labels.tolist()} for split, source in scenes.items()}
    assert shown["train"] == shown["validation"] == shown["test"]
    assert shown["heldout_validation"] == shown["heldout_test"]
    assert shown["train"].isdisjoint(shown["heldout_test"])
    assert (len(shown["train"]), len(shown["heldout_test"])) == (160, 40)
    names = scenes["train"].class_names
    pairs = {
        split: {frozenset(said(names[label])) for label in labels}
        for split, labels in shown.items()
    }
    assert pairs["train"].isdisjoint(pairs["heldout_test"])


def test_each_digit_is_as_often_in_each_place(scenes):
    for source in scenes.values():
        digits = [(*said(name), "left of" in name) for name in source.class_names]
        for place in (0, 1):
            for beside in (True, False):
                counts = np.bincount(
                    [digits[n][place] for n in source.labels if digits[n][2] == beside]
                )
                assert np.all(counts == len(source) / 20)


def test_splits_share_no_scan(scenes):
    used = {
        split: {n for i in range(len(source)) for n in source.describe(i).split()[-3::2]}
        for split, source in scenes.items()
    }
    train = used["train"]
    validation = used["validation"] | used["heldout_validation"]
    test = used["test"] | used["heldout_test"]
    assert (len(train), len(validation), len(test)) == (1197, 240, 360)
    assert len(train | validation | test) == 1797


def test_scenes_are_the_same_each_time(scenes):
    assert {split: len(source) for split, source in scenes.items()} == SIZES
    again = open_source("digit_scenes", "test", channels=3)
    part = open_source("digit_scenes", "test[100:110]", channels=1)
    for index in (100, 109):
        image, label = again.read(index).values()
        assert image.shape == (30, 30, 3) and image.dtype == np.uint8
        first = scenes["test"].read(index)
        np.testing.assert_array_equal(image, first["image"].repeat(3, axis=-1))
        assert label == first["label"]
        np.testing.assert_array_equal(part.read(index - 100)["image"], first["image"])
        assert part.describe(index - 100) == scenes["test"].describe(index)
    fingerprints = {split: source.fingerprint for split, source in scenes.items()}
    assert len({*fingerprints.values()}) == len(SIZES)
    assert again.fingerprint == fingerprints["test"]
    assert scenes["test"].found == "1,600 images in 160 classes of 200"


def test_the_config_chooses_among_what_is_held_out(scenes):
    evals = load_file(str(REPOSITORY / "configs" / "evaluate" / "scenes.py"))["evals"]
    source = scenes["heldout_test"]
    held_out = [source.class_names[label] for label in np.unique(source.labels)]
    assert list(evals["heldout_alone"]["classes"]) == held_out


def test_a_split_that_is_not_there_is_named():
    expected = "digit_scenes has no split 'heldout'; it has train, validation, test, heldout_val"
    with pytest.raises(UserError, match=expected):
        open_source("digit_scenes", "heldout", channels=1)


def test_the_vocabulary_of_the_config_has_all_words(scenes):
    file = REPOSITORY / "configs" / "pretrain" / "scenes_tokenizer.json"
    tokenizer = open_tokenizer(str(file), family="siglip2", length=10)
    sources = (scenes["test"], scenes["heldout_test"])
    texts = sorted({c for s in sources for i in range(len(s)) for c in captions_of(s, i)})
    ids = tokenizer(texts)
    assert len(texts) == len({*map(tuple, ids.tolist())}) == 400
    # None is unknown, and none is cut off: all have room for padding or end where they are full.
    assert not np.any(ids == 2)
    whole = open_tokenizer(str(file), family="siglip2", length=40)(texts)
    np.testing.assert_array_equal(whole[:, :10], ids)
