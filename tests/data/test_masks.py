"""Masks in folders: in which layouts they are found, and what their numbers become."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from distill.data import DataConfig, EvalLoader, TrainLoader, ViewConfig, open_source
from distill.data.sources.base import CorruptImage, MissingSplit
from distill.data.sources.pixel_values import decode_numbers
from distill.errors import RunFailed, UserError
from distill.moved import Claimed

CLASSES = ("wall", "floor", "cat", "dog")


def image(path, height=12, width=16, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def mask(path, numbers, palette=None, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Image.fromarray(np.asarray(numbers, np.uint8))
    if palette is not None:
        # Of grey, Pillow takes the values for indices.
        made.putpalette(palette)
    (made.convert(mode) if mode else made).save(path)


def numbers(high, height=12, width=16):
    return (np.arange(height * width).reshape(height, width) % high).astype(np.uint8)


@pytest.fixture
def ade(tmp_path):
    for n, split in enumerate(("training", "training", "validation")):
        image(tmp_path / "images" / split / f"ADE_{n}.jpg", seed=n)
        mask(tmp_path / "annotations" / split / f"ADE_{n}.png", numbers(5))
    rows = [f"{n + 1}\t0.1\t9\t8\t{name}" for n, name in enumerate(CLASSES)]
    (tmp_path / "objectInfo150.txt").write_text("\n".join(["Idx\tRatio\tTrain\tVal\tName", *rows]))
    return tmp_path


def plain(root, layout="{split}/{kind}", splits=("train",), suffix="png"):
    for n, split in enumerate(splits):
        for stem in ("a", "deeper/b"):
            image(root / layout.format(split=split, kind="images") / f"{stem}.jpg", seed=n)
            mask(root / layout.format(split=split, kind="masks") / f"{stem}.{suffix}", numbers(4))
    (root / "classes.txt").write_text("\n".join(CLASSES))
    return root


def opened(root, split="train", options=""):
    return open_source(f"masks:{root}{options}", split, channels=3)


def test_zero_is_no_class_in_the_layout_of_ade20k(ade):
    source = opened(ade)
    assert len(source) == 2 and source.found == "2 images with masks of 4 classes"
    assert source.spec["segmentation"].class_names == CLASSES and source.class_names == ()
    assert source.labels.tolist() == [-1, -1]
    found = source.read(1)["segmentation"]
    raw = numbers(5).astype(int)
    np.testing.assert_array_equal(found, np.where(raw == 0, 255, raw - 1))
    assert found.dtype == np.uint8
    assert [source.name(0), len(opened(ade, "val"))] == ["images/training/ADE_0.jpg", 1]
    zero = opened(ade, options="?zero=class&classes=4")
    with pytest.raises(RunFailed, match=r"ADE_0\.png has the label 4 in row 0, column 4 \(38 pix"):
        zero.read(0)


def test_voc_is_read_by_its_lists_and_by_the_index_of_a_palette(tmp_path):
    values = np.array([[0, 1, 20, 255], [15, 15, 0, 0]])
    for name in ("one", "two", "unused"):
        image(tmp_path / "JPEGImages" / f"{name}.jpg", 2, 4)
    # All colours are alike, so that nothing but the index tells classes apart.
    for name in ("one", "two"):
        mask(tmp_path / "SegmentationClass" / f"{name}.png", values, palette=[9] * 768)
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("two\none\n")
    (lists / "val.txt").write_text("unused\n")
    source = opened(tmp_path)
    assert [source.name(n) for n in (0, 1)] == ["JPEGImages/two.jpg", "JPEGImages/one.jpg"]
    names = source.spec["segmentation"].class_names
    assert (names[0], names[15], names[20], len(names)) == ("background", "person", "tvmonitor", 21)
    np.testing.assert_array_equal(source.read(0)["segmentation"], values)
    with pytest.raises(UserError, match=r"val\.txt names what is not there: \S*unused\.png\. Add"):
        opened(tmp_path, "validation")
    with pytest.raises(MissingSplit, match=r"no list test\.txt; it has train, val"):
        opened(tmp_path, "test")


@pytest.mark.parametrize("layout", ["{split}/{kind}", "{kind}/{split}"])
def test_plain_layouts_are_paired_at_any_depth(tmp_path, layout):
    source = opened(plain(tmp_path, layout, ("training", "val")))
    assert [source.name(n)[-5:] for n in (0, 1)] == ["a.jpg", "b.jpg"]
    np.testing.assert_array_equal(source.read(1)["segmentation"], numbers(4))
    assert len(opened(tmp_path, "validation[:1]")) == 1
    with pytest.raises(MissingSplit, match="no split 'test'"):
        opened(tmp_path, "test")


def test_files_that_are_alone_are_named(tmp_path):
    root = plain(tmp_path) / "train"
    image(root / "images" / "c.jpg")
    mask(root / "masks" / "d.png", numbers(4))
    with pytest.raises(UserError) as caught:
        opened(tmp_path)
    assert "1 image without mask: train/images/c.jpg" in str(caught.value)
    assert "1 mask without image: train/masks/d.png" in str(caught.value)
    (root / "images" / "c.jpg").unlink()
    (root / "masks" / "d.png").unlink()
    image(root / "images" / "a.png")
    with pytest.raises(UserError, match=r"a\.jpg and train/images/a\.png, and either"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            lambda path: mask(path, numbers(4, 11)),
            r"a\.png has 16×11 pixels, but .*a\.jpg has 16×12",
        ),
        (lambda path: mask(path, numbers(4), mode="RGB"), r"a\.png holds pixels of mode RGB"),
        (lambda path: mask(path, numbers(5)), r"a\.png has the label 4 in row 0, column 4 .*0…3"),
        (
            lambda path: path.write_bytes(jpeg(numbers(4))),
            r"a\.png is none of PNG, TIFF, BMP, GIF",
        ),
    ],
)
def test_what_is_wrong_with_a_mask_is_said_with_its_file(tmp_path, wrong, said):
    wrong(plain(tmp_path) / "train" / "masks" / "a.png")
    with pytest.raises(RunFailed, match=said):
        opened(tmp_path).read(0)


def jpeg(values):
    data = io.BytesIO()
    Image.fromarray(values).save(data, "jpeg")
    return data.getvalue()


def test_want_of_memory_is_not_the_files_fault(monkeypatch):
    def stumble(*_, **__):
        raise MemoryError

    monkeypatch.setattr(Image, "open", stumble)
    with pytest.raises(RunFailed, match=r"not enough memory to decode m\.png"):
        decode_numbers(b"", "m.png")


def test_a_mask_that_is_cut_off_makes_its_image_a_corrupt_one(tmp_path):
    path = plain(tmp_path) / "train" / "masks" / "a.png"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CorruptImage, match=r"a\.png: "):
        opened(tmp_path).read(0)


def png(bits, rows):
    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    head = struct.pack(">IIBBBBB", 4, 1, bits, 0, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize(
    ("bits", "rows", "expected"),
    [
        (1, b"\0\xa0", [1, 0, 1, 0]),
        (2, b"\0\x1b", [0, 1, 2, 3]),
        (4, b"\0\x01\x2f", [0, 1, 2, 15]),
        (8, b"\0\x00\x01\x02\xff", [0, 1, 2, 255]),
        (16, b"\0\0\1\0\2\1\0\xff\xff", [1, 2, 256, 65535]),
    ],
)
def test_grey_of_any_depth_is_the_number_as_stored(bits, rows, expected):
    assert decode_numbers(png(bits, rows), "x.png").tolist() == [expected]


def test_more_classes_than_a_byte_holds(tmp_path):
    image(tmp_path / "train" / "images" / "a.png", 1, 4)
    path = tmp_path / "train" / "masks" / "a.png"
    path.parent.mkdir()
    path.write_bytes(png(16, b"\0\0\1\0\2\1\0\xff\xff"))
    with pytest.raises(UserError, match=r"255 would stand for no class, and for '255'"):
        opened(tmp_path, options="?classes=300")
    source = opened(tmp_path, options="?classes=300&ignore=65535")
    found = source.read(0)["segmentation"]
    assert found.tolist() == [[1, 2, 256, -1]] and found.dtype == np.int32


def test_classes_have_to_be_known(tmp_path):
    (plain(tmp_path) / "classes.txt").unlink()
    with pytest.raises(UserError, match=r"write their names into classes\.txt"):
        opened(tmp_path)
    assert opened(tmp_path, options="?classes=4").spec["segmentation"].class_names == (*"0123",)
    with pytest.raises(UserError, match="zero=yes: expected"):
        opened(tmp_path, options="?classes=4&zero=yes")
    with pytest.raises(UserError, match=r"names 'clases'.*did you mean 'classes'"):
        opened(tmp_path, options="?clases=4")


def test_a_fingerprint_is_of_both_files_and_of_what_numbers_mean(ade):
    def fingerprint(options=""):
        return opened(ade, options=options).fingerprint

    found = [fingerprint(), fingerprint("?ignore=9"), fingerprint("?classes=4")]
    assert found[0] == found[2] != found[1]
    mask(ade / "annotations" / "training" / "ADE_0.png", numbers(3))
    assert fingerprint() != found[0]


def test_images_are_not_turned_away_from_their_masks(ade):
    with pytest.raises(UserError, match="exif_orientation turns images"):
        open_source(f"masks:{ade}", "train", channels=3, exif_orientation=True)


def test_a_folder_of_masks_is_found_where_it_has_moved_to(ade, tmp_path_factory):
    there = tmp_path_factory.mktemp("run")
    claimed = Claimed(ade / "runs", (str(there / "runs"),))
    recorded = {"data": {"source": f"masks:{there}/images?classes=4&zero=class"}}
    expected = f"masks:{ade}/images?classes=4&zero=class"
    assert claimed.found(recorded) == {"data": {"source": expected}}


def test_views_cut_and_mirror_masks_with_their_images(tmp_path):
    """Each pixel's red is the number of its class, spread over the range."""
    for n in range(4):
        values = np.random.default_rng(n).integers(0, 4, (2, 3), np.uint8).repeat(16, 0)
        values = values.repeat(16, 1)
        path = tmp_path / "train" / "images" / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.repeat(values[..., None] * 80, 3, axis=2).astype(np.uint8)).save(path)
        mask(tmp_path / "train" / "masks" / f"{n}.png", values)
    source = opened(tmp_path, options="?classes=4")
    config = DataConfig(view=ViewConfig(crop_area=(0.3, 1.0)))
    train = TrainLoader(source, config, size=24, batch_size=4, seed=0, put=lambda batch: batch)
    batches = [next(train) for _ in range(4)]
    train.close()
    batches += EvalLoader(source, config, size=24, batch_size=4, put=lambda batch: batch)
    for batch in batches:
        shown = batch["image"][..., 0].astype(int)
        # Not where a view may have blended two classes: beside pixels of another colour.
        inside = shown[:, 1:-1, 1:-1]
        beside = (shown[:, :-2, 1:-1], shown[:, 2:, 1:-1], shown[:, 1:-1, :-2], shown[:, 1:-1, 2:])
        pure = np.all([inside == one for one in beside], axis=0)
        assert pure.mean() > 0.5 and batch["segmentation"].dtype == np.uint8
        seen = batch["segmentation"][:, 1:-1, 1:-1]
        np.testing.assert_array_equal(seen[pure], inside[pure] // 80)
