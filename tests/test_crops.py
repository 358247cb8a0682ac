"""Crops by name, against the formulas of big_vision and what they come to."""

import pytest

from distill.evaluation_view import EvaluationView

VIEW = EvaluationView(crop=1.0, resize="squash", filter="bicubic", rounding="even")


@pytest.mark.parametrize(
    ("crop", "size", "side"),
    [
        ("square875", 224, 256),
        ("square875", 384, 438),
        ("square875", 560, 640),
        ("aspect75", 224, 298),
        ("aspect75", 384, 512),
        ("aspect75", 560, 746),
        ("resize_small", 224, 256),
    ],
)
def test_sides_are_the_published_ones(crop, size, side):
    assert min(VIEW.cropped(crop).resized(480, 640, size)) == side


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 333), (97, 97)])
def test_sides_are_those_of_the_plain_formulas(height, width):
    for size in range(1, 1200):
        squashed = VIEW.cropped("square875").resized(height, width, size)
        assert squashed == (int(size / 0.875),) * 2
        for crop, share in {"aspect75": 0.75, "resize_small": 0.875}.items():
            side, longer = sorted(VIEW.cropped(crop).resized(height, width, size))
            assert side == int(size / share)
            # The longer side keeps the ratio, to a pixel.
            exact = side * max(height, width) / min(height, width)
            assert exact - 1 < longer <= exact


def test_a_crop_leaves_the_models_filter_and_rounding():
    found = VIEW.cropped("aspect75")
    assert found == EvaluationView(crop=0.75, resize="shortest", filter="bicubic", rounding="even")
