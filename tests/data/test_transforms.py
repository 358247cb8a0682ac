"""Examples made into others where they are read, and the source of one's own of docs/data.md."""

import functools
import re
import runpy

import numpy as np
import pytest
from support import REPOSITORY

from distill.data import DataConfig, EvalLoader, TrainLoader, Transformed, open_source
from distill.data.sources.base import CorruptImage, Derived
from distill.data.sources.digits import Digits
from distill.data.sources.splits import open_parts
from distill.data.spec import TextSpec, TokensSpec
from distill.data.transforms import WithoutBorder
from distill.errors import UserError

LETTERS = 4


def with_caption(example, names):
    return example | {"caption": names[example["label"]]}


def tokenized(example):
    codes = [ord(letter) for letter in example["caption"][:LETTERS]]
    return example | {"caption": np.array(codes + [0] * (LETTERS - len(codes)), np.int32)}


@pytest.fixture(scope="module")
def captioned(image_folder):
    images = open_source(f"folder:{image_folder}", "train", channels=3)
    caption = functools.partial(with_caption, names=images.class_names)
    return Transformed(images, caption, {**images.spec, "caption": TextSpec()})


def evaluate(source, **options):
    config = DataConfig(**options)
    return EvalLoader(source, config, size=8, batch_size=8, put=lambda batch: batch)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_captions_are_tokenized_where_images_are_decoded(captioned, workers):
    source = Transformed(captioned, tokenized, captioned.spec | {"caption": TokensSpec(LETTERS)})
    found = list(evaluate(source, workers=workers))
    labels = np.concatenate([batch["label"] for batch in found])
    captions = np.concatenate([batch["caption"] for batch in found])
    assert captions.dtype == np.int32
    expected = [captioned.class_names[label][:LETTERS].ljust(LETTERS, "\0") for label in labels]
    assert ["".join(map(chr, row)) for row in captions] == expected


def test_text_is_refused_before_anything_is_read(captioned):
    message = r"'caption' is text, which no device takes.*distill\.data\.Transformed"
    with pytest.raises(UserError, match=message):
        evaluate(captioned)
    with pytest.raises(UserError, match=message):
        TrainLoader(captioned, DataConfig(), size=8, batch_size=8, seed=0, put=None)


def test_it_is_the_same_data(captioned, image_folder):
    images = open_source(f"folder:{image_folder}", "train", channels=3)
    for name in ("class_names", "found", "fingerprint"):
        assert getattr(captioned, name) == getattr(images, name)
    assert len(captioned) == len(images) and captioned.describe(3) == images.describe(3)
    np.testing.assert_array_equal(captioned.labels, images.labels)
    np.testing.assert_array_equal(captioned.read(3)["image"], images.read(3)["image"])


def test_the_source_in_the_documentation_runs_and_prints_what_it_says(tmp_path, capsys):
    text = (REPOSITORY / "docs/data.md").read_text(encoding="utf-8")
    section = text.split("## A source of one's own\n")[1].split("\n## ")[0]
    code, printed = re.findall(r"```(?:python)?\n(.*?)```", section, re.DOTALL)
    (tmp_path / "own.py").write_text(code)
    names = runpy.run_path(str(tmp_path / "own.py"))
    assert capsys.readouterr().out == printed
    mask = names["batch"]["segmentation"]
    seen = names["batch"]["image"][..., 0].astype(int)
    assert np.mean((seen > 100) == mask) > 0.97 and mask.any()


def test_a_border_is_left_out_before_anything_else(image_folder):
    images = open_source(f"folder:{image_folder}", "train", channels=3)
    found, whole = WithoutBorder(images, 2).read(1), images.read(1)
    np.testing.assert_array_equal(found["image"], whole["image"][2:-2, 2:-2])
    assert found["label"] == whole["label"] and found["image"].shape < whole["image"].shape


def test_images_without_a_border_are_others(image_folder):
    images = open_source(f"folder:{image_folder}", "train", channels=3)
    prints = {images.fingerprint, *(WithoutBorder(images, n).fingerprint for n in (1, 2))}
    assert len(prints) == 3


def test_an_image_that_is_no_more_than_its_border_is_corrupt(image_folder):
    images = open_source(f"folder:{image_folder}", "train", channels=3)
    height, width, _ = images.read(0)["image"].shape
    half = -(-min(height, width) // 2)
    with pytest.raises(CorruptImage, match=f"{width}×{height} pixels have no more than a border"):
        WithoutBorder(images, half).read(0)


def test_slices_of_what_is_made_of_a_source_are_those_of_the_source():
    digits = Digits("validation", 1)
    made = Transformed(digits, lambda example: example, digits.spec)
    for text in ("validation[:50%]", "validation[10:20]+validation[-5:]"):
        found, expected = (open_parts(text, lambda _, one=one: one) for one in (made, digits))
        assert [found.describe(i) for i in range(len(found))] == [
            expected.describe(i) for i in range(len(expected))
        ]


def test_a_source_that_says_no_order_is_sliced_in_its_own():
    class Plain(Derived):
        """Without a method for the order."""

    found = open_parts("validation[3:5]", lambda _: Plain(Digits("validation", 1)))
    whole = Digits("validation", 1)
    assert [found.describe(i) for i in range(2)] == [whole.describe(3), whole.describe(4)]
