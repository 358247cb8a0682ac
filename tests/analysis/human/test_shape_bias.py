"""Shape bias counts answers that named an image's shape or its texture."""

import csv
from fractions import Fraction
from statistics import fmean

import numpy as np
import pytest

from distill.analysis.human.consistency import Answers
from distill.analysis.human.datasets import CATEGORIES
from distill.analysis.human.shape_bias import find_cues
from distill.errors import UserError


def answers(images, given):
    codes = [
        CATEGORIES.index(image.rstrip("0123456789.png").split("-")[0].rstrip("0123456789"))
        for image in images
    ]
    return Answers(
        dataset="cue-conflict",
        observers=("m",),
        conditions=np.zeros(len(images), int),
        images=tuple(images),
        categories=np.array(codes, np.int8),
        answers=np.array(
            [[CATEGORIES.index(one) if one in CATEGORIES else -1 for one in given]], np.int8
        ),
    )


def test_images_whose_shape_is_their_texture_do_not_count():
    images = ["bird3-clock2.png", "bird1-bird7.png", "car10-knife1.png", "dog1-cat2.png"]
    bias = find_cues(answers(images, ["bird", "bird", "knife", "na"])).bias(np.array([0]))
    assert (bias.shape.sum(), bias.texture.sum(), bias.conflicts, bias.trials) == (1, 1, 3, 4)
    assert bias.value == 0.5
    assert bias.per_category["bird"] == 1.0
    assert bias.per_category["car"] == 0.0
    assert bias.per_category["dog"] is None
    assert bias.mean_over_categories == 0.5
    found = bias.as_json()
    assert (found["other_answers"], found["shape_share_of_trials"]) == (1, 0.25)


def test_a_name_without_a_texture_is_refused():
    with pytest.raises(UserError, match=r"bird3-moon2.png of cue-conflict names no texture"):
        find_cues(answers(["bird3-moon2.png"], ["bird"]))


def test_peoples_shape_bias_is_the_published_one(alignment):
    pooled = alignment.humans.shape_bias
    assert (pooled.shape.sum(), pooled.texture.sum()) == (9236, 398)
    assert (pooled.conflicts, pooled.trials) == (12_000, 12_800)
    assert round(pooled.value, 4) == 0.9587
    assert round(pooled.mean_over_categories, 4) == 0.9538
    people = [one.value for one in alignment.subjects.values()]
    assert len(people) == 10
    assert (round(fmean(people), 4), round(min(people), 4), round(max(people), 4)) == (
        *(0.9576, 0.9191, 0.9866),
    )
    assert alignment.as_json()["humans"]["shape_bias_mean_over_subjects"] == fmean(people)


@pytest.mark.parametrize("model", ["resnet50", "simclr_resnet50x1"])
def test_counts_of_a_category_are_those_of_plain_python(model, alignment, raw_data):
    counts = {category: [0, 0] for category in CATEGORIES}
    name = f"cue-conflict_{model.replace('_', '-')}_session-1.csv"
    with (raw_data / "cue-conflict" / name).open(newline="") as content:
        for row in csv.DictReader(content):
            texture = row["imagename"].removesuffix(".png").split("-")[-1].strip("0123456789")
            for number, cue in enumerate((row["category"], texture)):
                counts[row["category"]][number] += (
                    row["category"] != texture and row["object_response"] == cue
                )
    [found] = [one for one in alignment.models if one.name == model]
    for category, (shape, texture) in counts.items():
        expected = float(Fraction(shape, shape + texture)) if shape + texture else None
        assert found.shape_bias.per_category[category] == expected


def test_a_resample_counts_images_as_often_as_they_were_drawn():
    images = ["bird3-clock2.png", "car10-knife1.png", "dog1-cat2.png"]
    cues = find_cues(answers(images, ["bird", "knife", "na"]))
    weights = np.array([[2, 1, 0], [0, 3, 0], [0, 0, 3]], np.float32)
    np.testing.assert_allclose(cues.resampled(np.array([0]), weights), [2 / 3, 0, np.nan])
