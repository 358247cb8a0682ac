"""The warning about a model that guesses, against the binomial distribution in whole numbers."""

import math

import pytest

from distill.evaluate import warn_if_near_chance


def enough(images, classes):
    """The fewest right ones that guessing reaches with a probability of at most 1/1000."""
    ways, all_ways = 0, classes**images
    for right in range(images, -1, -1):
        ways += math.comb(images, right) * (classes - 1) ** (images - right)
        if 1000 * ways > all_ways:
            return right + 1


@pytest.mark.parametrize("images, classes", [(360, 10), (1000, 1000), (50, 2), (5, 10), (10, 2)])
def test_it_ends_where_guessing_becomes_improbable(images, classes):
    right = enough(images, classes)
    assert 0 < right <= images
    assert warn_if_near_chance(right / images, classes, images) is None
    assert warn_if_near_chance((right - 1) / images, classes, images)


@pytest.mark.parametrize("accuracy", [0.0, 0.02, 0.1])
def test_chance_and_worse_than_chance_are_named_with_their_causes(accuracy):
    message = warn_if_near_chance(accuracy, 10, 2000)
    assert f"{accuracy:.2%} on 2,000 images" in message and "10 classes (10.00%)" in message
    for cause in ("normalised", "order", "data set"):
        assert cause in message


def test_a_good_model_is_left_alone():
    assert warn_if_near_chance(0.75, 1000, 50_000) is None
    assert warn_if_near_chance(1.0, 10, 360) is None
    # Poor, but on so many images no accident.
    assert warn_if_near_chance(0.003, 1000, 50_000) is None


@pytest.mark.parametrize("images, classes", [(9, 2), (6, 3), (2, 10), (0, 10), (1000, 1)])
@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_nothing_is_said_where_nothing_can_be_known(accuracy, images, classes):
    assert warn_if_near_chance(accuracy, classes, images) is None


def test_the_share_may_come_from_float32():
    right = enough(360, 10)
    assert warn_if_near_chance(right / 360 - 1e-7, 10, 360) is None
    assert warn_if_near_chance((right - 1) / 360 + 1e-7, 10, 360)
