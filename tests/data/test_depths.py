"""Depth beside images: from PNGs and arrays in folders, and in metres whatever it is kept in."""

import io

import numpy as np
import pytest
from PIL import Image

from distill.data import DataConfig, EvalLoader, open_source
from distill.data.sources.base import CorruptImage
from distill.data.sources.pixel_values import decode_depth
from distill.errors import RunFailed, UserError

METRES = np.array([[0, 0.5, 1.25], [2, 9.999, 0.001]])


def image(path, height=2, width=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(path)


def opened(root, split="train", options=""):
    return open_source(f"depth:{root}{options}", split, channels=3)


@pytest.fixture
def beside(tmp_path):
    """A PNG of millimetres beside one image, an array beside another."""
    image(tmp_path / "train" / "room" / "a.jpg")
    Image.fromarray((METRES * 1000).astype(np.uint16)).save(tmp_path / "train" / "room" / "a.png")
    image(tmp_path / "train" / "b.png")
    values = METRES.astype(np.float16)
    values[1] = np.nan, np.inf, -1
    np.save(tmp_path / "train" / "b.npy", values)
    return tmp_path


def test_png_is_divided_and_an_array_is_in_metres(beside):
    source = opened(beside, options="?divisor=1000")
    assert [source.name(n) for n in (0, 1)] == ["train/b.png", "train/room/a.jpg"]
    assert source.found == "2 images with depth"
    found = [source.read(n)["depth"] for n in (0, 1)]
    assert found[0].dtype == found[1].dtype == np.float32
    # What is 0, not a number, infinite or negative is not known.
    expected = np.where(METRES == 0, np.nan, METRES).astype(np.float32)
    np.testing.assert_array_equal(found[1], expected)
    half = np.array([[np.nan, 0.5, 1.25], [np.nan, np.nan, np.nan]], np.float32)
    np.testing.assert_array_equal(found[0], half)


def test_whole_numbers_need_a_divisor(beside):
    source = opened(beside)
    assert source.read(0)["depth"][0, 2] == 1.25
    with pytest.raises(RunFailed, match=r"a\.png holds whole numbers; .*\?divisor=1000"):
        source.read(1)
    with pytest.raises(UserError, match="divisor=0: expected a number above 0"):
        opened(beside, options="?divisor=0")
    assert opened(beside, options="?divisor=256").fingerprint != source.fingerprint


@pytest.mark.parametrize("layout", ["{kind}/train", "train/{kind}"])
def test_images_and_depths_in_folders_of_their_own(tmp_path, layout):
    image(tmp_path / layout.format(kind="images") / "a.png")
    place = tmp_path / layout.format(kind="depth")
    place.mkdir(parents=True)
    np.save(place / "a.npy", METRES[..., None])
    found = opened(tmp_path).read(0)["depth"]
    np.testing.assert_array_equal(found[1], METRES[1].astype(np.float32))


def test_what_is_wrong_is_said_with_its_file(beside):
    array = beside / "train" / "b.npy"
    np.save(array, METRES.T)
    with pytest.raises(RunFailed, match=r"b\.npy has 2×3 pixels, but its image .*b\.png has 3×2"):
        opened(beside).read(0)
    np.save(array, np.zeros((2, 3, 3)))
    with pytest.raises(RunFailed, match=r"b\.npy holds an array \[2, 3, 3\]"):
        opened(beside).read(0)
    np.save(array, np.array([[{}]]), allow_pickle=True)
    with pytest.raises(CorruptImage, match=r"b\.npy: .*allow_pickle"):
        opened(beside).read(0)
    array.write_bytes(array.read_bytes()[:40])
    with pytest.raises(CorruptImage, match=r"b\.npy: "):
        opened(beside).read(0)
    array.unlink()
    # A PNG that is alone could be either; beside an image it is its depth.
    with pytest.raises(UserError, match=r"1 depth without image: train/b\.png"):
        opened(beside)


def test_views_are_of_the_same_part_of_both(tmp_path):
    image(tmp_path / "train" / "a.jpg", 20, 30)
    depth = np.tile(np.arange(1, 31, dtype=np.float32), (20, 1))
    depth[:, 15:] = np.nan
    np.save(tmp_path / "train" / "a.npy", depth)
    (batch,) = EvalLoader(
        opened(tmp_path), DataConfig(), size=20, batch_size=1, put=lambda batch: batch
    )
    # Of 30 columns the 20 in the middle, or what they become at another scale.
    seen = batch["depth"][0]
    known = np.isfinite(seen)
    assert (known == known[0]).all() and 0.4 < known.mean() < 0.6
    assert np.nanmin(seen) > 1 and abs(np.nanmax(seen) - 15) < 1


def test_more_pixels_than_allowed_and_arrays_of_any_declared_size_are_corrupt():
    png = io.BytesIO()
    Image.fromarray(np.ones((3, 2), np.uint16)).save(png, "PNG")
    assert decode_depth(png.getvalue(), "a.png", 1.0, max_pixels=6).shape == (3, 2)
    with pytest.raises(CorruptImage, match=r"it has 2 × 3 pixels, .*max_pixels is 5"):
        decode_depth(png.getvalue(), "a.png", 1.0, max_pixels=5)
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        array, {"descr": "<f8", "fortran_order": False, "shape": (2**30, 2**20)}
    )
    with pytest.raises(CorruptImage, match=r"a\.npy: "):
        decode_depth(array.getvalue() + bytes(64), "a.npy", None)
