"""Depth's figures beside plain loops and NumPy's least squares."""

import math
import statistics

import numpy as np
import pytest

from distill.analysis.depth import (
    EIGEN,
    FIGURES,
    Crop,
    depth_errors,
    mean_errors,
    patch_means,
)
from distill.errors import RunFailed, UserError

LIMITS = 0.5, 10.0


def drawn(size=(9, 14), seed=0):
    """A depth from 0 to 12, and a prediction that is off by up to half of it and beyond limits."""
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0, 12, size).astype(np.float32)
    prediction = depth * rng.uniform(0.5, 1.5, size).astype(np.float32)
    prediction[0, :5] = -3
    return prediction, depth


def counted(prediction, depth, limits, rows=None, columns=None):
    """Pairs of numbers that count."""
    height, width = depth.shape
    return [
        (float(prediction[y, x]), float(depth[y, x]))
        for y in range(*(rows or (0, height)))
        for x in range(*(columns or (0, width)))
        if limits[0] < depth[y, x] < limits[1]
    ]


def by_loop(pairs, limits):
    """The figures by definition, number by number."""
    pairs = [(min(max(p, limits[0]), limits[1]), d) for p, d in pairs]
    logs = [math.log(p) - math.log(d) for p, d in pairs]
    ratios = [max(p / d, d / p) for p, d in pairs]
    mean = statistics.fmean
    squares = mean(e * e for e in logs)
    return {
        "abs_rel": mean(abs(p - d) / d for p, d in pairs),
        "sq_rel": mean((p - d) ** 2 / d for p, d in pairs),
        "rmse": math.sqrt(mean((p - d) ** 2 for p, d in pairs)),
        "rmse_log": math.sqrt(squares),
        "log10": mean(abs(math.log10(p) - math.log10(d)) for p, d in pairs),
        "silog": 100 * math.sqrt(squares - mean(logs) ** 2),
        "delta1": mean(r < 1.25 for r in ratios),
        "delta2": mean(r < 1.25**2 for r in ratios),
        "delta3": mean(r < 1.25**3 for r in ratios),
        "delta@1.1": mean(r < 1.1 for r in ratios),
    }


def aligned(pairs):
    """Scaled and shifted by NumPy's least squares."""
    p, d = np.array(pairs).T
    scale, shift = np.linalg.lstsq(np.stack([p, np.ones_like(p)], axis=1), d, rcond=None)[0]
    return [*zip((scale * p + shift).tolist(), d.tolist(), strict=True)]


def both(pairs, limits):
    of_aligned = by_loop(aligned(pairs), limits)
    return by_loop(pairs, limits) | {f"aligned/{k}": v for k, v in of_aligned.items()}


def test_figures_are_those_of_a_plain_loop():
    prediction, depth = drawn()
    found = depth_errors(prediction, depth, limits=LIMITS)
    assert found == pytest.approx(both(counted(prediction, depth, LIMITS), LIMITS), rel=1e-9)
    assert tuple(found) == (*FIGURES, *(f"aligned/{name}" for name in FIGURES))
    # None of them is at an end, so that all could differ.
    assert 0 < found["delta@1.1"] < found["delta1"] < found["delta2"] < found["delta3"] < 1


def test_only_the_crop_counts():
    prediction, depth = drawn((480, 640))
    found = depth_errors(prediction, depth, limits=LIMITS, crop=EIGEN)
    outside = np.ones((480, 640), bool)
    outside[45:471, 41:601] = False
    depth[outside] = np.nan
    assert found == depth_errors(prediction, depth, limits=LIMITS)
    prediction[outside] = np.nan
    assert found == depth_errors(prediction, depth, limits=LIMITS)
    with pytest.raises(UserError, match=r"a\.npy is 9×14 pixels .* crop is of images of 480×640"):
        depth_errors(*drawn(), crop=EIGEN, source="a.npy")


def test_bounds_are_not_within():
    # 1.25 and 2 are exact in binary.
    depth = np.array([[0.5, 1.0, 2.0, 10.0, 4.0]])
    found = depth_errors(np.array([[9, 1.25, 1.6, 9, 4.0]]), depth, limits=LIMITS)
    assert found["delta1"] == pytest.approx(1 / 3) and found["delta2"] == 1
    assert found["abs_rel"] == pytest.approx((0.25 + 0.2) / 3)


def test_float16_with_nan_and_infinities_is_compared_where_it_is_known():
    prediction, depth = drawn()
    depth = depth.astype(np.float16)
    depth[2, 3], depth[4, 5], depth[5, 6], depth[6, 7] = np.nan, np.inf, -np.inf, 0
    expected = both(counted(prediction, depth, LIMITS), LIMITS)
    # What is predicted there does not matter.
    prediction[2, 3] = np.nan
    found = depth_errors(prediction, depth, limits=LIMITS)
    assert found == pytest.approx(expected, rel=1e-9)
    # Squared, these are beyond float16.
    far = np.full((2, 2), 3e4, np.float16)
    assert depth_errors(far * np.float16(0.5), far, limits=(1, 6e4))["rmse"] == 1.5e4


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_prediction_that_is_not_finite_ends_it(value):
    prediction, depth = drawn()
    depth[3, 3], prediction[3, 3] = 5, value
    with pytest.raises(RunFailed, match=r"a prediction for a\.npy is not finite"):
        depth_errors(prediction, depth, limits=LIMITS, source="a.npy")


def test_relative_depths_are_measured_when_aligned():
    _, depth = drawn()
    found = depth_errors(depth * 0.01 - 7, depth, limits=LIMITS)
    assert found["aligned/rmse"] == pytest.approx(0, abs=1e-4) and found["rmse"] > 1
    assert found["aligned/delta@1.1"] == 1


@pytest.mark.parametrize("value", [3.0, 0.1])
def test_a_constant_prediction_is_aligned_to_the_mean(value):
    depth = np.array([[1.0, 2.0, 6.0]])
    found = depth_errors(np.full((1, 3), value), depth, limits=LIMITS)
    assert found["aligned/rmse"] == pytest.approx(np.std(depth))


def test_an_exact_prediction_has_no_error():
    _, depth = drawn()
    found = depth_errors(depth, depth, limits=LIMITS)
    ones = {name for name in found if "delta" in name}
    assert all(found[name] == 1 for name in ones)
    rest = [found[name] for name in found if name not in ones]
    assert rest == pytest.approx([0] * len(rest), abs=1e-6)


def test_the_mean_is_over_images_and_leaves_out_those_without_depths():
    first, second = drawn((4, 4)), drawn((20, 20), seed=1)
    one, two = (depth_errors(*each, limits=LIMITS) for each in (first, second))
    none = depth_errors(first[0], np.full((4, 4), np.nan, np.float16), limits=LIMITS)
    assert all(math.isnan(value) for value in none.values()) and none.keys() == one.keys()
    expected = {name: (one[name] + two[name]) / 2 for name in one}
    assert mean_errors([one, none, two]) == pytest.approx(expected, rel=1e-12)
    assert mean_errors([none]) == {} and mean_errors([]) == {}


def test_sizes_must_agree():
    with pytest.raises(UserError, match=r"a\.npy is 9×14 pixels .* its prediction 14×9"):
        depth_errors(drawn()[0].T, drawn()[1], source="a.npy")


def test_a_crop_may_be_ones_own():
    prediction, depth = drawn()
    crop = Crop(size=(9, 14), rows=slice(2, 5), columns=slice(1, 9))
    found = depth_errors(prediction, depth, limits=LIMITS, crop=crop)
    pairs = counted(prediction, depth, LIMITS, (2, 5), (1, 9))
    assert found["rmse"] == pytest.approx(by_loop(pairs, LIMITS)["rmse"])


def test_the_mean_of_a_patch_is_that_of_what_is_known_of_it():
    rng = np.random.default_rng(8)
    for size, grid in (((8, 12), (2, 3)), ((7, 10), (3, 4)), ((3, 5), (4, 6))):
        values = rng.uniform(1, 5, size).astype(np.float32)
        values[rng.random(size) < 0.3] = np.nan
        parts = {}
        for row, column in np.ndindex(size):
            patch = tuple(
                int((place + 0.5) / side * of)
                for place, side, of in zip((row, column), size, grid, strict=True)
            )
            parts.setdefault(patch, []).append(float(values[row, column]))
        found = patch_means(values, grid)
        for patch in np.ndindex(grid):
            known = [one for one in parts.get(patch, []) if not np.isnan(one)]
            expected = np.mean(known) if known else np.nan
            np.testing.assert_allclose(found[patch], expected, rtol=1e-6, err_msg=str(patch))
