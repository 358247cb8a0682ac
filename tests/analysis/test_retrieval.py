"""Recall of images by captions and of captions by images, beside a plain loop."""

import numpy as np
import pytest

from distill.analysis import retrieval as module
from distill.analysis.retrieval import retrieval
from distill.errors import UserError


def by_loop(images, texts, image_of, at):
    """Sorts everything, stably, and looks for what is right."""
    cosines = np.float32(np.float64(images) @ np.float64(texts).T)
    to_image = [np.argsort(-column, kind="stable") for column in cosines.T]
    to_text = [np.argsort(-row, kind="stable") for row in cosines]
    found = {}
    for k in at:
        hits = [image_of[j] in order[:k] for j, order in enumerate(to_image)]
        found[f"text_to_image@{k}"] = sum(hits), len(texts)
        hits = [any(image_of[j] == i for j in order[:k]) for i, order in enumerate(to_text)]
        found[f"image_to_text@{k}"] = sum(hits), len(images)
    return found


def unit(*shape, seed=0):
    drawn = np.random.default_rng(seed).standard_normal(shape)
    return np.float32(drawn / np.linalg.norm(drawn, axis=-1, keepdims=True))


@pytest.mark.parametrize("block", [1, 100, 1 << 24])
@pytest.mark.parametrize(
    "image_of",
    [
        np.arange(23),
        np.sort(np.r_[np.arange(23), np.random.default_rng(1).integers(0, 23, 40)]),
        np.random.default_rng(2).permutation(np.r_[np.arange(23), np.zeros(9, int)]),
    ],
    ids=["one caption", "uneven", "out of order"],
)
def test_recall_is_that_of_a_plain_loop(image_of, block, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", block)
    images = unit(23, 4)
    # Related to their image, so that some are found and some are not.
    texts = images[image_of] + unit(len(image_of), 4, seed=3)
    texts /= np.linalg.norm(texts, axis=-1, keepdims=True)
    found = retrieval(images, texts, image_of, at=(1, 2, 5)).counts()
    assert found == by_loop(images, texts, image_of, (1, 2, 5))
    assert 0 < found["text_to_image@1"][0] < found["text_to_image@5"][0] < len(texts)
    assert 0 < found["image_to_text@1"][0] < 23


@pytest.mark.parametrize("block", [1, 40, 1 << 24])
def test_of_equal_ones_the_first_goes_first(block, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", block)
    one, other = unit(2, 6)
    images = np.stack([one, one, other, one])
    texts = np.stack([other, one, one, one, other])
    image_of = np.array([2, 0, 1, 3, 2])
    found = retrieval(images, texts, image_of, at=(1, 2, 3)).counts()
    assert found == by_loop(images, texts, image_of, (1, 2, 3))
    # Of the captions of `one`, each finds the first image at once.
    assert found["text_to_image@1"] == (3, 5)
    assert found["image_to_text@1"] == (2, 4) and found["image_to_text@2"] == (3, 4)


def test_among_fewer_than_are_asked_for_all_are_found():
    found = retrieval(unit(3, 4), unit(3, 4, seed=1), np.arange(3)).counts()
    assert found["text_to_image@5"] == found["image_to_text@10"] == (3, 3)


def test_an_image_without_a_caption_is_an_error():
    with pytest.raises(UserError, match="image 1 has no caption"):
        retrieval(unit(3, 4), unit(2, 4), np.array([0, 2]))
    with pytest.raises(UserError, match="there are no captions"):
        retrieval(unit(3, 4), unit(0, 4), np.zeros(0, int))
