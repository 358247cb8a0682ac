"""Propagation and the scores of objects beside plain loops over patches and pixels."""

import math

import numpy as np
import pytest

from distill.analysis import propagation
from distill.analysis.objects import boundary_f, jaccard, mean_scores, object_scores
from distill.analysis.propagation import Propagation, objects_of, propagate, propagated_masks
from distill.errors import RunFailed, UserError


def by_loop(tokens, first, frames, radius, neighbours, temperature):
    """Each patch looks at each source on its own."""
    shares = [first]
    _, height, width, _ = tokens.shape
    tokens = tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)
    for t in range(1, len(tokens)):
        sources = [0, *range(max(1, t - frames), t)]
        found = np.zeros_like(first)
        for y in range(height):
            for x in range(width):
                seen = [
                    (float(tokens[t, y, x] @ tokens[s, v, u]), shares[s][v, u])
                    for s in sources
                    for v in range(max(0, y - radius), min(height, y + radius + 1))
                    for u in range(max(0, x - radius), min(width, x + radius + 1))
                ]
                bound = sorted((s for s, _ in seen), reverse=True)[:neighbours][-1]
                kept = [(math.exp(s / temperature), share) for s, share in seen if s >= bound]
                total = sum(weight for weight, _ in kept)
                found[y, x] = sum(weight * share for weight, share in kept) / total
        shares.append(found)
    return np.stack(shares)


def video(frames=5, height=4, width=6, dtype=np.float64):
    """Tokens that are alike from frame to frame, and shares of three objects."""
    rng = np.random.default_rng(0)
    scene = rng.standard_normal((height, width, 7))
    tokens = np.stack(
        [
            np.roll(scene, shift, axis=1) + 0.4 * rng.standard_normal(scene.shape)
            for shift in range(frames)
        ]
    )
    first = np.eye(3)[rng.integers(0, 3, (height, width))]
    return tokens.astype(dtype), first.astype(dtype)


@pytest.mark.parametrize(
    ("frames", "radius", "neighbours"), [(7, 12, 5), (2, 1, 5), (1, 2, 1), (3, 0, 30)]
)
@pytest.mark.parametrize("tile", [2, 5, 8])
def test_shares_are_those_of_a_plain_loop(frames, radius, neighbours, tile, monkeypatch):
    monkeypatch.setattr(propagation, "_TILE", tile)
    tokens, first = video()
    options = dict(frames=frames, radius=radius, neighbours=neighbours, temperature=0.1)
    found = np.stack([*propagate(tokens, first, Propagation(**options))])
    np.testing.assert_allclose(found, by_loop(tokens, first, **options), rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.sum(axis=-1), 1)
    # Each patch's own place is all there is within a radius of 0.
    assert np.allclose(found[0], found[-1]) == (radius == 0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float16, 2e-2)])
def test_stored_tokens_may_be_of_fewer_bits(dtype, tolerance):
    tokens, first = video()
    expected = np.stack([*propagate(tokens, first)])
    found = np.stack([*propagate(tokens.astype(dtype), first)])
    assert found.dtype == np.float32
    # One of two that are almost equal may be taken for the other.
    assert np.mean(np.abs(found - expected) < tolerance) > 0.95


def test_sources_that_are_equally_similar_all_count():
    tokens = np.ones((2, 1, 8, 3))
    first = np.zeros((1, 8, 2))
    first[0, :2, 0] = first[0, 2:, 1] = 1
    found = [*propagate(tokens, first)][1]
    np.testing.assert_allclose(found, np.broadcast_to([0.25, 0.75], (1, 8, 2)))


def test_a_token_that_is_not_finite_ends_it():
    tokens, first = video()
    tokens[2, 1, 1, 0] = np.nan
    with pytest.raises(RunFailed, match="the features of token 7 of 24 are not finite"):
        list(propagate(tokens, first))


def moving(frames=4, side=8, patch=3):
    """Two objects, 7 and 20, that move to the right by a patch a frame, in tokens and pixels."""
    grid = np.zeros((frames, side, side), np.uint8)
    for t in range(frames):
        grid[t, 1:3, t : t + 3], grid[t, 5:7, t + 1 : t + 4] = 7, 20
    # Noise is shared by frames so that the background is found again.
    place = np.random.default_rng(0).standard_normal((side, side, 16))
    tokens = np.where(grid[..., None] > 0, 0, place)
    tokens[grid == 7] = np.eye(16)[0] * 5
    tokens[grid == 20] = np.eye(16)[1] * 5
    return tokens, grid.repeat(patch, axis=1).repeat(patch, axis=2)


def test_objects_are_followed_at_the_size_of_the_mask():
    tokens, masks = moving()
    found = np.stack([*propagated_masks(tokens, masks[0])])
    assert found.shape == masks[1:].shape and found.dtype == masks.dtype
    assert set(np.unique(found)) == {0, 7, 20}
    scores = object_scores(found, masks)
    assert scores.objects == [7, 20] and scores.j.shape == (2, 3)
    assert scores.j.min() > 0.7
    # Tokens that say nothing of place or object follow nothing.
    lost = np.stack([*propagated_masks(np.ones_like(tokens), masks[0])])
    assert object_scores(lost, masks).j.max() < 0.3


def test_what_is_ignored_is_no_object():
    assert objects_of(np.array([[0, 3, 255], [1, 3, 3]])) == [1, 3]
    tokens, masks = moving()
    masks[0, :2] = 255
    assert 255 not in np.stack([*propagated_masks(tokens, masks[0])])
    with pytest.raises(UserError, match="has no object to follow"):
        next(propagated_masks(tokens, np.full((24, 24), 255, np.uint8)))


def contour_by_loop(region):
    """DAVIS's: unlike the pixel to the right, below, or right below; those of the edge less."""
    height, width = region.shape
    found = []
    for y in range(height):
        for x in range(width):
            others = [
                region[v, u]
                for v, u in ((y, x + 1), (y + 1, x), (y + 1, x + 1))
                if v < height and u < width
            ]
            if any(other != region[y, x] for other in others):
                found.append((y, x))
    return found


def f_by_loop(prediction, mask, tolerance):
    found, there = contour_by_loop(prediction), contour_by_loop(mask)
    if not found or not there:
        return float(not found and not there)
    radius = math.ceil(tolerance * math.sqrt(mask.shape[0] ** 2 + mask.shape[1] ** 2))

    def near(ours, theirs):
        return sum(
            any((y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in theirs) for y, x in ours
        ) / len(ours)

    precision, recall = near(found, there), near(there, found)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def discs(seed):
    """An object, and a prediction that is off by some pixels; some reach the edge."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:24, :30]
    centre = rng.uniform((6, 0), (18, 24))
    centres = (centre, centre + rng.uniform(-3, 3, 2))
    return [(y - r) ** 2 + (x - c) ** 2 < rng.uniform(4, 8) ** 2 for r, c in centres]


@pytest.mark.parametrize("tolerance", [0.008, 0.05, 0.1, 2])
def test_contours_are_compared_as_in_a_plain_loop(tolerance):
    values = [boundary_f(*discs(seed), tolerance) for seed in range(5)]
    expected = [f_by_loop(*discs(seed), tolerance) for seed in range(5)]
    assert values == pytest.approx(expected, rel=1e-12)
    assert all(0 < value < 1 for value in values) if tolerance < 0.1 else values[0] > 0.9


def test_contours_within_a_disc_are_those_of_scipys_dilation():
    ndimage = pytest.importorskip("scipy.ndimage")
    prediction, mask = discs(3)
    contours = [np.zeros(mask.shape, bool) for _ in range(2)]
    for contour, region in zip(contours, (prediction, mask), strict=True):
        contour[tuple(np.transpose(contour_by_loop(region)))] = True
    radius = math.ceil(0.1 * math.hypot(24, 30))
    v, u = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = v**2 + u**2 <= radius**2
    found, there = contours
    precision, recall = (
        np.mean(ndimage.binary_dilation(theirs, disc)[ours])
        for ours, theirs in ((found, there), (there, found))
    )
    expected = 2 * precision * recall / (precision + recall)
    assert boundary_f(prediction, mask, 0.1) == pytest.approx(expected, rel=1e-12)


def test_regions_are_compared_by_their_pixels():
    prediction, mask = discs(0)
    both = sum(p and m for p, m in zip(prediction.flat, mask.flat, strict=True))
    either = sum(p or m for p, m in zip(prediction.flat, mask.flat, strict=True))
    assert jaccard(prediction, mask) == both / either and 0 < both < either


@pytest.mark.parametrize("score", [jaccard, boundary_f])
def test_an_object_that_is_gone_is_found_by_nothing_alone(score):
    empty, region = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    region[3:5, 3:6] = True
    assert score(empty, empty) == score(region, region) == 1
    assert score(region, empty) == score(empty, region) == 0


def test_scores_are_of_each_object_and_frame_but_the_first():
    masks = np.zeros((3, 6, 6), np.uint8)
    masks[0, 0, 0], masks[0, 5, 5], masks[1, 1:3, 1:3], masks[1:, 4, :] = 1, 9, 1, 255
    # 4 comes later, and is no object to be followed.
    masks[2, 0, 0] = 4
    predictions = masks[1:].copy()
    predictions[0, 2, 2], predictions[:, 4, :] = 0, 9
    found = object_scores(predictions, masks)
    assert found.objects == [1, 9]
    np.testing.assert_array_equal(found.j, [[3 / 4, 1], [1, 1]])
    assert found.f[0, 0] == f_by_loop(predictions[0] == 1, masks[1] == 1, 0.008)
    with pytest.raises(UserError, match=r"a\.png is 6×6 pixels"):
        object_scores(predictions[:, :5], masks, source="a.png")


def test_means_are_over_frames_and_then_over_the_objects_of_all_videos():
    masks = np.zeros((3, 4, 4), np.uint8)
    masks[:, :2], masks[:, 2, :2] = 1, 2
    one = object_scores(np.stack([masks[1], np.zeros((4, 4), np.uint8)]), masks)
    two = object_scores(masks[1:2] * 0 + 1, np.ones((2, 4, 4), np.uint8))
    still = object_scores(masks[:0], masks[:1])
    found = mean_scores([one, two, still])
    assert found["j"] == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert found["f"] == pytest.approx((one.f.mean(axis=1).sum() + 1) / 3)
    assert found["j_and_f"] == pytest.approx((found["j"] + found["f"]) / 2)
    assert mean_scores([]) == mean_scores([still]) == {}
