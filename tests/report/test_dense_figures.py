"""Pictures of masks, depths and tokens on the page of a comparison."""

import base64
import io
import re

import dense_images as data
import numpy as np
import pytest
from PIL import Image

from distill.evaluate.dense_pictures import SIDE, read_map, read_picture
from distill.evaluate.depth import DepthConfig
from distill.evaluate.segmentation import SegmentationConfig
from distill.report import dense_figures

SPLITS = dict(train_split="train", test_split="val")


def line(config, subject, seed=0):
    evaluation = config.build("seg", subject)
    metrics = evaluation(data.drawn(subject.network, seed))
    return {"metrics": metrics, **evaluation.about()}


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    return data.write(tmp_path_factory.mktemp("masks"), (("train", 8), ("val", 8)))


@pytest.fixture(scope="module")
def lines(masks):
    config = SegmentationConfig(source=f"masks:{masks}", **SPLITS, pictures=2)
    return {
        "teacher": line(config, data.subject()),
        "student": line(config, data.subject(width=8, patch_size=2, heads=1), seed=1),
    }


def drawn(html):
    texts = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in texts]


def test_examples_are_at_equal_distances_and_the_worst_are_the_worst(masks, lines):
    pictures = lines["teacher"]["details"]["pictures"]
    assert [one["image"] for one in pictures["samples"]] == [
        "images/val/00.png", "images/val/04.png",
    ]  # fmt: skip
    scores = [one["score"] for one in pictures["worst"]]
    assert len(scores) == 2 and scores == sorted(scores)
    every = SegmentationConfig(source=f"masks:{masks}", **SPLITS, pictures=8)
    of_all = line(every, data.subject())["details"]["pictures"]["worst"]
    assert [one["image"] for one in of_all[:2]] == [one["image"] for one in pictures["worst"]]


def test_a_picture_holds_the_label_itself(masks, lines):
    sample = lines["teacher"]["details"]["pictures"]["samples"][0]
    label = np.asarray(Image.open(masks / "masks" / "val" / "00.png"))
    np.testing.assert_array_equal(read_picture(sample["truth"]), label)
    assert read_picture(sample["pixels"]).shape == (*label.shape, 3)
    assert read_picture(sample["prediction"]).max() < 3


def test_large_pictures_are_shrunk():
    from distill.evaluate.dense_pictures import _within

    assert _within((100, 50), SIDE) == (100, 50)
    assert _within((1000, 500), 128) == (128, 64)
    assert _within((3, 1000), 128) == (1, 128)


def test_the_page_shows_each_model_beside_the_truth(lines):
    assert len(drawn(dense_figures.masks(lines, "seg"))) == 1
    worst = dense_figures.worst_masks(lines, "seg")
    assert len(drawn(worst)) == 2 and "worst of student" in worst
    colours = dense_figures.token_colours(lines, "seg")
    share = float(re.search(r"says of them: student (-?[\d.]+)", colours)[1])
    assert 0 < share < 0.95
    grids = {one: read_map(lines[one]["details"]["pictures"]["samples"][0]["components"]).shape
             for one in lines}  # fmt: skip
    assert grids["teacher"][:2] == (4, 4) and grids["student"][:2] == (8, 8)


def test_a_model_of_other_images_or_without_pictures_is_left_out(masks, lines):
    none = SegmentationConfig(source=f"masks:{masks}", **SPLITS, pictures=0)
    without = {"teacher": line(none, data.subject())}
    for draw in (dense_figures.masks, dense_figures.token_colours, dense_figures.worst_masks):
        assert draw(without, "seg") == ""
    other = SegmentationConfig(source=f"masks:{masks}", **SPLITS, pictures=3)
    both = {"teacher": lines["teacher"], "other": line(other, data.subject())}
    assert "other" not in dense_figures.token_colours(both, "seg")


def test_depths_are_drawn_between_an_images_nearest_and_farthest(tmp_path):
    root = data.write(tmp_path, (("train", 4), ("val", 2)), depths=True)
    config = DepthConfig(source=f"depth:{root}", **SPLITS)
    found = {"teacher": line(config, data.subject())}
    truth = read_picture(found["teacher"]["details"]["pictures"]["samples"][0]["truth"])
    depth = np.load(root / "depth" / "val" / "00.npy")
    assert np.array_equal(truth == 0, np.isnan(depth))
    assert truth[depth == 1.5].max() == 1 and truth[depth == 4.0].min() == 255
    assert len(drawn(dense_figures.depths(found, "seg"))) == 1
    assert "RMSE" in dense_figures.worst_depths(found, "seg")
