"""What a model is shown of files and arrays."""

import numpy as np
import pytest
import small_photos
from PIL import Image

from distill.data import EvalLoader, open_source
from distill.data.config import DataConfig
from distill.errors import UserError
from distill.evaluation_view import EvaluationView
from distill.serving.images import Shown, list_images, read_views

SHOWN = Shown(24, 3, EvaluationView(crop=0.8, filter="bicubic"))


def test_files_are_shown_as_evaluations_show_them(tmp_path):
    root = small_photos.flat(tmp_path / "flat", 7)
    source = open_source(f"images:{root}", "train", channels=3)
    loader = EvalLoader(
        source, DataConfig(), size=24, batch_size=7, put=lambda batch: batch, view=SHOWN.view
    )
    views = list(read_views(list_images(root), SHOWN))
    assert [view.name for view in views] == sorted(str(file) for file in root.iterdir())
    expected = next(iter(loader))["image"]
    np.testing.assert_array_equal(np.stack([view.pixels for view in views]), expected)


def test_arrays_are_shown_as_their_files_are(tmp_path):
    root = small_photos.flat(tmp_path / "flat", 2)
    files = sorted(root.iterdir())
    arrays = [np.asarray(Image.open(file)) for file in files]
    found, expected = (
        [v.pixels for v in read_views(list_images(x), SHOWN)] for x in (arrays, files)
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_become_what_the_model_takes(channels):
    shown = Shown(8, channels, EvaluationView(crop=1.0))
    for shape in ((9, 9), (9, 9, 1), (9, 9, 3)):
        (view,) = read_views([np.full(shape, 77, np.uint8)], shown)
        assert view.pixels.shape == (8, 8, channels) and (view.pixels == 77).all()


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8)]
)
def test_what_is_no_image_is_refused(image):
    with pytest.raises(UserError, match="expected uint8 pixels, 0 to 255"):
        list(read_views([image], SHOWN))


def test_batches_of_arrays_are_taken_one_by_one():
    assert len(list_images(np.zeros((5, 4, 4, 3), np.uint8))) == 5
    assert len(list_images([np.zeros((4, 4, 3), np.uint8), np.zeros((2, 4, 4, 3), np.uint8)])) == 3


def test_a_damaged_file_says_why(tmp_path):
    root = small_photos.flat(tmp_path / "flat", 3, damaged=1)
    first, *others = read_views(list_images(str(root)), SHOWN)
    assert first.pixels is None and first.why and all(view.pixels is not None for view in others)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError, match="there is no image or folder"):
        list_images(tmp_path / "nowhere.jpg")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(UserError, match=r"no image under .*; there is 1 .txt. Expected files"):
        list_images(tmp_path)
