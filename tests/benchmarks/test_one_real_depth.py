"""Disparity becomes depth, and both parts of the image tiles that `depth:` reads."""

import numpy as np
import pytest

from benchmarks.one_real_depth import depth_of, write_tiles
from distill.data import open_source


def test_depths_are_focal_length_times_base_line_over_disparity(tmp_path):
    disparity = np.array([[0.0, 31.086, np.inf]], np.float32)
    metres = 994.978 * 0.193001 / 31.086
    expected = [[metres, metres / 2, np.nan]]
    np.testing.assert_allclose(depth_of(disparity), expected, rtol=1e-6)


def test_tiles_are_parts_of_the_image_with_none_in_both_splits(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (250, 741, 3), np.uint8)
    depth = np.arange(250 * 741, dtype=np.float32).reshape(250, 741) + 1
    write_tiles(image, depth, tmp_path)
    seen = {}
    for split, tiles in (("train", 8), ("test", 6)):
        source = open_source(f"depth:{tmp_path}", split, channels=3)
        assert len(source) == tiles
        columns = set()
        for index in range(tiles):
            example = source.read(index)
            row, column = divmod(int(example["depth"][0, 0]) - 1, 741)
            part = np.s_[row : row + 100, column : column + 100]
            np.testing.assert_array_equal(example["image"], image[part])
            np.testing.assert_array_equal(example["depth"], depth[part])
            columns.update(range(column, column + 100))
        seen[split] = columns
    assert max(seen["train"]) + 41 < min(seen["test"]) + 1
    assert pytest.approx(700) == len(seen["train"] | seen["test"])
