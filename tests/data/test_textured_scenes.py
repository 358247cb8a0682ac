"""Textured scenes: digits on photographs, with masks and depth that are exactly what is drawn."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image

from distill.data import DataConfig, EvalLoader, TrainLoader, ViewConfig, open_source
from distill.errors import UserError

SPLITS = ("train", "validation", "test")
SIDES = {1: 16, 2: 14, 3: 12}


def opened(split="train", options="", also="", channels=3):
    return open_source(f"textured_scenes{also}{options}", split, channels=channels)


@pytest.fixture(scope="module")
def digits():
    return load_digits()


def scan_numbers(source, index):
    """Those in `load_digits()` of a scene's digits, as its description says."""
    said = source.describe(index).split("of digits images ")[1].split(" on ")[0]
    return [int(one) for one in said.split(", ")] if said else []


def enlarged(scan, side):
    """A scan of 0 to 16 as levels up to 255, bilinearly at another size, in float64."""
    levels, out = np.round(scan * (255 / 16)), np.empty((side, side))
    for row in range(side):
        for column in range(side):
            y, x = (min(max((p + 0.5) * 8 / side - 0.5, 0), 7) for p in (row, column))
            (top, left), (bottom, right) = (
                (int(y), int(x)),
                (min(int(y) + 1, 7), min(int(x) + 1, 7)),
            )
            v, u = y - top, x - left
            upper = (1 - u) * levels[top, left] + u * levels[top, right]
            lower = (1 - u) * levels[bottom, left] + u * levels[bottom, right]
            out[row, column] = (1 - v) * upper + v * lower
    return out


def composed(source, index, size, light, digits):
    """The scene in float64, its mask and depth, and where none of them may be in doubt."""
    ground, pieces = source.layout(index)
    photograph = load_sample_image(("china.jpg", "flower.jpg")[ground.photograph])
    image = photograph[ground.top :, ground.left :][:size, :size] * (light / 100)
    mask, depth = np.zeros((size, size), int), np.full((size, size), 4.0)
    sure = np.ones((size, size), bool)
    for number, piece in zip(scan_numbers(source, index), pieces, strict=True):
        side = SIDES[piece.layer]
        cover = np.minimum(2 * enlarged(digits.images[number], side), 255)
        place = np.s_[piece.top : piece.top + side, piece.left : piece.left + side]
        share = cover[..., None] / 255
        image[place] = image[place] * (1 - share) + share * np.array(piece.ink)
        mask[place][cover > 127.5] = 1 + digits.target[number]
        depth[place][cover > 127.5] = piece.layer
        sure[place] &= abs(cover - 127.5) > 1e-3
    return image, mask, depth, sure


@pytest.mark.parametrize(("size", "light"), [(32, 40), (64, 100), (45, 20)])
def test_images_masks_and_depths_are_what_is_composed(digits, size, light):
    options = f"?size={size}&light={light}"
    for split in SPLITS:
        of = {also: opened(split, options, also) for also in ("", "_masks", "_depth")}
        for index in (0, 7, 31, 600, 999):
            image, mask, depth, sure = composed(of[""], index, size, light, digits)
            examples = {also: source.read(index) for also, source in of.items()}
            for example in examples.values():
                assert example["image"].dtype == np.uint8
                # Of whole numbers after each layer: of the ground, and of up to three digits.
                assert np.abs(example["image"] - image).max() < 3
                np.testing.assert_array_equal(example["image"], examples[""]["image"])
            assert sure.mean() > 0.99
            np.testing.assert_array_equal(
                examples["_masks"]["segmentation"][sure], mask[sure].astype(np.uint8)
            )
            np.testing.assert_array_equal(
                examples["_depth"]["depth"][sure], depth[sure].astype(np.float32)
            )


def test_depth_masks_and_classes_agree():
    scenes, masks, depths = (opened("validation", also=also) for also in ("", "_masks", "_depth"))
    assert masks.spec["segmentation"].class_names == ("background", *"0123456789")
    for index in range(300):
        mask = masks.read(index)["segmentation"]
        depth = depths.read(index)["depth"]
        classes = scenes.read(index)["classes"]
        assert mask.dtype == np.uint8 and depth.dtype == classes.dtype == np.float32
        np.testing.assert_array_equal(mask == 0, depth == 4)
        # Every digit is seen, and nothing else.
        np.testing.assert_array_equal(np.flatnonzero(classes) + 1, np.unique(mask[mask > 0]))
        pieces = scenes.layout(index).pieces
        assert {*np.unique(depth)} == {4, *(piece.layer for piece in pieces)}
        # Drawn from the farthest to the nearest; none is of the layer of another.
        assert [piece.layer for piece in pieces] == sorted({p.layer for p in pieces}, reverse=True)


@pytest.mark.parametrize("size", [32, 96])
def test_digits_hardly_overlap_and_are_as_dense_in_larger_scenes(size):
    source = opened(options=f"?size={size}")
    counts = []
    for index in range(300):
        pieces = source.layout(index).pieces
        counts.append(len(pieces))
        squares = np.zeros((len(pieces), size, size), bool)
        for square, (_, layer, top, left, _) in zip(squares, pieces, strict=True):
            assert top % 12 == left % 12 == 0 and min(top, left) >= 0
            assert max(top, left) + SIDES[layer] <= size
            square[top : top + SIDES[layer], left : left + SIDES[layer]] = True
        for n, one in enumerate(pieces):
            for m in range(n):
                both = np.sum(squares[n] & squares[m])
                allowed = 0 if one.layer == pieces[m].layer else SIDES[pieces[m].layer] ** 2 / 3
                assert both <= allowed
    cells = (size / 32) ** 2
    assert min(counts) >= 1 and max(counts) <= 3 * cells
    assert 1.7 * cells < np.mean(counts) < 2.1 * cells


def test_a_small_scene_has_one_digit_and_its_label(digits):
    scenes, masks = (opened("train", "?size=16", also) for also in ("", "_masks"))
    longer = opened("train", "?size=16&images=25000")
    assert (
        scenes.class_names == tuple("0123456789") and scenes.found == "20,000 images in 10 classes"
    )
    np.testing.assert_array_equal(longer.labels[:20_000], scenes.labels)
    assert np.bincount(scenes.labels).min() > 1_500 and (masks.labels == -1).all()
    places = set()
    for index in range(200):
        example, (piece,) = scenes.read(index), scenes.layout(index).pieces
        assert example["image"].shape == (16, 16, 3) and example.keys() == {"image", "label"}
        assert (
            example["label"] == scenes.labels[index] == digits.target[scan_numbers(scenes, index)]
        )
        assert {*np.unique(masks.read(index)["segmentation"])} == {0, 1 + example["label"]}
        np.testing.assert_array_equal(longer.read(index)["image"], example["image"])
        places.add((piece.top, piece.left))
    assert {top for top, _ in places} == {0, 2, 4}


def test_splits_share_no_scan_and_no_pixel_of_the_photographs():
    used = {}
    for split in SPLITS:
        shown, numbers = np.zeros((2, 427, 640), bool), set()
        for size in (32, 128):
            source = opened(split, f"?size={size}")
            for index in range(150):
                photograph, top, left = source.layout(index).ground
                assert 0 <= top <= 427 - size and 0 <= left <= 640 - size
                shown[photograph, top : top + size, left : left + size] = True
                numbers.update(scan_numbers(source, index))
        used[split] = shown, numbers
    for one, other in (SPLITS[:2], SPLITS[1:], SPLITS[::2]):
        assert not np.any(used[one][0] & used[other][0])
        assert used[one][1].isdisjoint(used[other][1])
    # Of nearly all of both photographs.
    assert np.mean(sum(shown for shown, _ in used.values())) > 0.9


def test_scenes_are_the_same_each_time():
    source, longer = opened("test"), opened("test", "?images=5000000")
    assert (len(source), len(longer)) == (2_000, 5_000_000)
    assert source.found == "2,000 images of 10 classes, several each"
    part, grey = opened("test[100:110]"), opened("test", channels=1)
    carried = pickle.loads(pickle.dumps(source))  # noqa: S301
    with ThreadPoolExecutor(4) as threads:
        together = [*threads.map(source.read, range(40))]
    for index in reversed(range(40)):
        for other in (longer, carried):
            again = other.read(index)
            np.testing.assert_array_equal(again["image"], together[index]["image"])
            np.testing.assert_array_equal(again["classes"], together[index]["classes"])
    np.testing.assert_array_equal(part.read(9)["image"], source.read(109)["image"])
    image = Image.fromarray(together[3]["image"])
    np.testing.assert_array_equal(grey.read(3)["image"][..., 0], np.asarray(image.convert("L")))
    # As many different ones as are asked for.
    assert len({longer.read(i)["image"].tobytes() for i in range(4_999_000, 4_999_500)}) == 500
    assert source.name(5) == "test/5"
    assert "textured_scenes test scene 5, of digits images " in source.describe(5)


def test_whatever_changes_scenes_changes_their_fingerprint():
    names = [f"textured_scenes{also}" for also in ("", "_masks", "_depth")]
    options = ("size=33", "images=7", "light=49", "step=2", "size=33&light=49")
    names += [f"textured_scenes?{said}" for said in options]
    found = [open_source(name, split, channels=3).fingerprint for name in names for split in SPLITS]
    assert len({*found}) == len(found)
    # What is said as it is anyway changes nothing.
    same = opened("test", "?images=2000&size=32&light=40&step=12")
    assert same.fingerprint == found[2] == opened("test", channels=1).fingerprint


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("textured_scenes?size=15", r"\?size=15: expected a whole number from 16 to 128"),
        ("textured_scenes_masks?size=129", r"\?size=129: expected a whole number from 16 to 128"),
        ("textured_scenes?size=6e1", r"\?size=6e1: expected a whole number"),
        ("textured_scenes?images=0", r"\?images=0: expected a whole number from 1 to "),
        ("textured_scenes?light=-1", r"\?light=-1: expected a whole number from 0 to 100"),
        ("textured_scenes?step=17", r"\?step=17: expected a whole number from 1 to 16"),
        ("textured_scenes?sise=64", r"names 'sise'; expected textured_scenes\?size=PIXELS&images="),
        ("textured_scenes?size=", "names no pixels after size="),
        ("textured_scenes?size=64&size=32", "names 'size' twice"),
        ("textured_scenes?size", r"\?size cannot be read; expected textured_scenes\?size=PIXELS"),
        ("textured_scenes:64", "unknown data source 'textured_scenes:64'; expected .*"),
        ("digits?size=8", "names options, and digits has none; expected digits"),
        ("folder?size=8:/data", "names options, and folder has none"),
    ],
)
def test_options_that_are_wrong_are_said(name, message):
    with pytest.raises(UserError, match=message):
        open_source(name, "train", channels=3)


def test_a_split_that_is_not_there_is_named():
    with pytest.raises(UserError, match="no split 'val'; it has train, validation, test"):
        opened("val")


def test_loaders_and_configs_take_them():
    config = DataConfig(
        source="textured_scenes?images=64&size=40",
        view=ViewConfig(crop_area=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=False, eval_crop=1.0),
    )
    source = config.open("train", channels=3)
    loader = TrainLoader(source, config, size=40, batch_size=8, seed=0, put=lambda batch: batch)
    batch = next(loader)
    loader.close()
    for row, index in enumerate(batch["index"]):
        np.testing.assert_array_equal(batch["image"][row], source.read(index)["image"])
        np.testing.assert_array_equal(batch["classes"][row], source.read(index)["classes"])
    assert config.open_evaluation("test", channels=3).class_names == tuple("0123456789")
    for also, name, spec in (("masks", "segmentation", np.uint8), ("depth", "depth", np.float32)):
        evaluated = DataConfig(source=f"textured_scenes_{also}", view=config.view)
        images = evaluated.open_evaluation("test[:10]", channels=3, labelled=False)
        (batch,) = EvalLoader(images, evaluated, size=32, batch_size=10, put=lambda batch: batch)
        for row, index in enumerate(batch["index"]):
            np.testing.assert_array_equal(batch[name][row], images.read(index)[name])
        assert batch[name].dtype == spec and {*batch["label"].tolist()} == {-1}
        with pytest.raises(UserError, match=f"textured_scenes_{also} has no labels"):
            evaluated.open_evaluation("test", channels=3)
