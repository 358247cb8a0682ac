"""Objects followed by a model's tokens, beside plain loops over the same tokens and pixels."""

import math

import jax
import numpy as np
import pytest
from davis_of_squares import squares, write_sequence
from PIL import Image

from distill.data import DataConfig
from distill.errors import RunFailed, UserError
from distill.evaluate.propagation import PropagationConfig
from distill.evaluate.whole_frames import FrameTokens
from distill.evaluation_view import EvaluationView
from distill.parallel import MeshConfig, make_mesh
from distill.subject import Subject
from students import vit

PATCH = 4
SHAPE = dict(image_size=8, width=16, heads=2, depth=2, mlp_dim=24, num_classes=0, head="cls")


@pytest.fixture(scope="module")
def model():
    """A random transformer whose positions matter less than what a patch shows."""
    network = vit.build(vit.configure("mu/4", registers=1, **SHAPE))
    network = network.placed(make_mesh(MeshConfig()))
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: np.float32(0.3 * rng.standard_normal(leaf.shape)), network.abstract_params
    )
    params["patch_embed"]["linear"]["kernel"] *= 4
    return network, jax.device_put(params, network.shardings)


def subject(network, **choices):
    return Subject(
        **dict(
            place="here",
            network=network,
            class_names=(),
            view=EvaluationView(),
            data=DataConfig(threads=1),
            split=None,
            metrics=lambda images: None,
            view_size=8,
            batch_size=8,
        )
        | choices
    )


def config(root, **choices):
    small = dict(short_side=22, context=1, radius=3, neighbours=3, temperature=0.2)
    return PropagationConfig(source=f"davis:{root}", **small | choices)


def tokens_one_by_one(network, params, frames, grid):
    """Of frames resized by Pillow, float64 [T, rows, columns, D]."""
    found = []
    for frame in frames:
        size = grid[1] * PATCH, grid[0] * PATCH
        pixels = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR))
        tokens = network.apply(params, (np.float32(pixels) / 127.5 - 1)[None]).tokens
        found.append(np.float64(tokens[0]).reshape(*grid, -1))
    return np.stack(found)


def bilinear(shares, height, width):
    rows, columns, _ = shares.shape
    found = np.zeros((height, width, shares.shape[2]))
    for y in range(height):
        for x in range(width):
            v = min(max((y + 0.5) * rows / height - 0.5, 0), rows - 1)
            u = min(max((x + 0.5) * columns / width - 0.5, 0), columns - 1)
            for i, a in ((int(v), 1 - v % 1), (min(int(v) + 1, rows - 1), v % 1)):
                for j, b in ((int(u), 1 - u % 1), (min(int(u) + 1, columns - 1), u % 1)):
                    found[y, x] += a * b * shares[i, j]
    return found


def followed_by_loop(tokens, mask, context, radius, neighbours, temperature):
    """The masks of the frames after the first."""
    numbers = sorted({0, *mask.reshape(-1).tolist()})
    height, width = mask.shape
    count, rows, columns, _ = tokens.shape
    tokens = tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)
    first = np.zeros((rows, columns, len(numbers)))
    for y in range(rows):
        for x in range(columns):
            pixel = mask[int((y + 0.5) * height / rows), int((x + 0.5) * width / columns)]
            first[y, x, numbers.index(pixel)] = 1
    shares, masks = [first], []
    for t in range(1, count):
        now = np.zeros_like(first)
        for y in range(rows):
            for x in range(columns):
                seen = [
                    (tokens[t, y, x] @ tokens[s, v, u], shares[s][v, u])
                    for s in {0, *range(max(0, t - context), t)}
                    for v in range(max(0, y - radius), min(rows, y + radius + 1))
                    for u in range(max(0, x - radius), min(columns, x + radius + 1))
                ]
                best = sorted(seen, key=lambda one: -one[0])[:neighbours]
                weights = [math.exp(one / temperature) for one, _ in best]
                now[y, x] = sum(w * share for w, (_, share) in zip(weights, best, strict=True))
                now[y, x] /= sum(weights)
        shares.append(now)
        large = bilinear(now, height, width)
        for channel in range(len(numbers)):
            low, high = large[..., channel].min(), large[..., channel].max()
            large[..., channel] = (large[..., channel] - low) / (high - low or 1)
        masks.append(np.array(numbers)[large.argmax(-1)])
    return masks


def j_by_loop(found, there):
    both = either = 0
    for p, m in zip(found.flat, there.flat, strict=True):
        both, either = both + (p and m), either + (p or m)
    return both / either if either else 1.0


def contour(region):
    height, width = region.shape
    return [
        (y, x)
        for y in range(height)
        for x in range(width)
        if any(
            region[v, u] != region[y, x]
            for v, u in ((y, x + 1), (y + 1, x), (y + 1, x + 1))
            if v < height and u < width
        )
    ]


def f_by_loop(found, there):
    radius = math.ceil(0.008 * math.hypot(*there.shape))
    ours, theirs = contour(found), contour(there)
    if not ours or not theirs:
        return float(not ours and not theirs)

    def near(some, others):
        hits = [any((y - v) ** 2 + (x - u) ** 2 <= radius**2 for v, u in others) for y, x in some]
        return sum(hits) / len(hits)

    precision, recall = near(ours, theirs), near(theirs, ours)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def test_scores_are_those_of_plain_loops_over_the_same_tokens(model, tmp_path):
    network, params = model
    j, f = [], []
    # Neither is a multiple of the patch: 22 of the shorter side are 5.5 patches, 6.
    for name, size, grid in (("wide", (21, 30), (6, 8)), ("tall", (34, 22), (8, 6))):
        frames, masks = squares(4, *size, seed=len(name))
        write_sequence(tmp_path, name, frames, masks)
        tokens = tokens_one_by_one(network, params, frames, grid)
        found = followed_by_loop(tokens, masks[0], 1, 3, 3, 0.2)
        for number in (1, 4):
            pairs = [(p == number, m == number) for p, m in zip(found, masks[1:], strict=True)]
            j.append(np.mean([j_by_loop(*pair) for pair in pairs]))
            f.append(np.mean([f_by_loop(*pair) for pair in pairs]))
    evaluation = config(tmp_path).build("objects", subject(network))
    metrics = evaluation(params)
    assert metrics["objects/j"] == pytest.approx(np.mean(j), abs=1e-6)
    assert metrics["objects/f"] == pytest.approx(np.mean(f), abs=1e-6)
    assert metrics["objects/j_and_f"] == pytest.approx((np.mean(j) + np.mean(f)) / 2, abs=1e-6)
    assert 0.1 < metrics["objects/j"] < 1 and not evaluation.missing
    assert evaluation.seen() == [
        f"4 objects in 2 sequences of davis:{tmp_path}, 6 frames after the first ones"
    ]
    each = evaluation.about()["details"]["sequences"]
    assert each["wide"]["j"] == pytest.approx(np.mean(j[:2]), abs=1e-6)
    # However many frames are computed at once.
    few = config(tmp_path).build("objects", subject(network, batch_size=1))
    assert few(params) == pytest.approx(metrics, abs=1e-6)


def test_frames_are_rounded_to_whole_patches(model):
    network, _ = model
    tokens = FrameTokens(subject(network), 480)
    assert tokens.trained == (2, 2)
    assert tokens.grid((480, 854)) == (120, 214) and tokens.grid((960, 540)) == (213, 120)
    assert FrameTokens(subject(network), 10).grid((100, 300)) == (2, 8)
    assert FrameTokens(subject(network), 1).grid((50, 50)) == (1, 1)


def test_another_grid_than_the_models_is_said(model, tmp_path):
    network, _ = model
    write_sequence(tmp_path, "a", *squares(2, 20, 20))
    (found, grid) = config(tmp_path).build("objects", subject(network)).remarks
    assert found == "1 sequence of 2 frames"
    assert "6×6 patches of the first one, where the model was made for 2×2" in grid
    same = config(tmp_path, short_side=8).build("objects", subject(network))
    assert len(same.remarks) == 1


def test_what_cannot_be_followed_is_left_out_and_counted(model, tmp_path):
    network, params = model
    frames, masks = squares(3, 21, 30)
    write_sequence(tmp_path, "good", frames, masks)
    write_sequence(tmp_path, "single", frames[:1], masks[:1])
    write_sequence(tmp_path, "nothing", frames, np.where(masks == 0, 0, 255).astype(np.uint8))
    write_sequence(tmp_path, "broken", frames, masks)
    file = tmp_path / "JPEGImages" / "480p" / "broken" / "00001.jpg"
    file.write_bytes(file.read_bytes()[:50])
    evaluation = config(tmp_path).build("objects", subject(network))
    metrics = evaluation(params)
    note = "1 of one frame, 1 whose first frame shows no object, 1 that cannot be decoded"
    assert evaluation.seen()[0].endswith(f"(left out {note})")
    assert {*evaluation.about()["details"]["sequences"]} == {"good"}
    strict = subject(network, data=DataConfig(threads=1, max_corrupt_share=0.0))
    with pytest.raises(RunFailed, match="1 of 4 sequences could not be decoded"):
        config(tmp_path).build("objects", strict)(params)
    (tmp_path / "ImageSets" / "2017" / "val.txt").write_text("good\n")
    assert config(tmp_path).build("objects", subject(network))(params) == metrics


def test_without_objects_the_metrics_are_missing(model, tmp_path, caplog):
    network, params = model
    frames, masks = squares(2, 21, 30)
    write_sequence(tmp_path, "nothing", frames, masks * 0)
    evaluation = config(tmp_path).build("objects", subject(network))
    assert evaluation(params) == {}
    assert evaluation.missing == {"objects/j", "objects/f", "objects/j_and_f"}
    assert "no sequence has an object to follow" in caplog.text


def test_frames_of_several_sizes_are_an_error(model, tmp_path):
    network, params = model
    frames, masks = squares(2, 21, 30)
    write_sequence(tmp_path, "two", [frames[0], frames[1, :20]], [masks[0], masks[1, :20]])
    evaluation = config(tmp_path).build("objects", subject(network))
    with pytest.raises(UserError, match=r"two differ in size: 30×20, 30×21; expected one"):
        evaluation(params)


def test_tokens_that_are_not_finite_name_the_sequence(model, tmp_path):
    network, params = model
    write_sequence(tmp_path, "a", *squares(2, 21, 30))
    broken = jax.tree.map(lambda leaf: leaf * np.nan, params)
    with pytest.raises(RunFailed, match=r"480p/a: the features of token"):
        config(tmp_path).build("objects", subject(network))(broken)


def test_frames_without_masks_have_nothing_to_follow(model, tmp_path):
    folder = tmp_path / "val" / "a" / "clip"
    folder.mkdir(parents=True)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / "0.png")
    asked = PropagationConfig(source=f"clips:{tmp_path}")
    with pytest.raises(UserError, match="have no masks of objects to follow; expected davis:PATH"):
        asked.build("objects", subject(model[0]))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (dict(short_side=0), "short_side must be a whole number from 1 to"),
        (dict(context=-1), "context must be a whole number from 0 to"),
        (dict(neighbours=0), "neighbours must be a whole number from 1 to"),
        (dict(temperature=0.0), "temperature must be a number from 1e-18"),
    ],
)
def test_values_out_of_bounds_are_said(choices, message):
    with pytest.raises(ValueError, match=message):
        config("/data", **choices)
