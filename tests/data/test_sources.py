import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from distill.data import open_source
from distill.data.sources import CorruptImage
from distill.errors import UserError

SIZES = {"train": 1197, "validation": 240, "test": 360}


def contents(source):
    return [tuple(source.read(i).values()) for i in range(len(source))]


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


@pytest.fixture(scope="module")
def digits():
    return {split: open_source("digits", split, channels=1) for split in SIZES}


def test_digits_splits_have_their_published_sizes(digits):
    assert {split: len(source) for split, source in digits.items()} == SIZES


def test_digits_splits_are_disjoint_and_hold_every_image(digits):
    names = [s.describe(i) for s in digits.values() for i in range(len(s))]
    assert len(set(names)) == len(names) == 1797
    assert set(names) == {f"digits image {number}" for number in range(1797)}


def test_digits_splits_hold_the_classes_in_proportion(digits):
    totals = np.bincount(load_digits().target)
    for split, size in SIZES.items():
        labels = [digits[split].read(i)["label"] for i in range(size)]
        np.testing.assert_allclose(np.bincount(labels), totals * size / 1797, atol=1.5)


def test_digits_pixels_and_labels_are_those_of_scikit_learn(digits):
    reference = load_digits()
    for source in digits.values():
        for index in range(0, len(source), 17):
            number = int(source.describe(index).split()[-1])
            image, label = source.read(index).values()
            assert image.dtype == np.uint8 and image.shape == (8, 8, 1)
            assert label == reference.target[number]
            # 0 … 16 becomes 0 … 255.
            np.testing.assert_allclose(image[..., 0], reference.images[number] * 255 / 16, atol=0.5)


def test_colour_digits_repeat_the_grey_channel(digits):
    colour = open_source("digits", "test", channels=3)
    for index in range(0, 360, 50):
        image, label = colour.read(index).values()
        grey, same_label = digits["test"].read(index).values()
        assert image.shape == (8, 8, 3) and label == same_label
        assert all((image[..., c] == grey[..., 0]).all() for c in range(3))


def test_digits_are_the_same_each_time(digits):
    again = open_source("digits", "validation", channels=1)
    for (image, label), (other, other_label) in zip(
        contents(again), contents(digits["validation"]), strict=True
    ):
        assert label == other_label and (image == other).all()
    assert [again.describe(i) for i in range(240)] == [
        digits["validation"].describe(i) for i in range(240)
    ]


def test_unknown_digits_split_names_the_splits():
    with pytest.raises(UserError, match=r"'dev'.*train, validation, test"):
        open_source("digits", "dev", channels=1)


UNKNOWN = ["imagenet", "folder", "folder:", "images", "images:", "tfds:", "digits:8", "", "a:b"]


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_source_names_what_there_is(name):
    with pytest.raises(UserError, match=r"expected .*digits, folder:PATH, .*tfds:NAME"):
        open_source(name, "train", channels=3)


@pytest.fixture
def folder(tmp_path):
    """Two classes, made in no particular order, with files of all kinds."""
    root = tmp_path / "images"
    red, blue = Image.new("RGB", (6, 4), (250, 10, 10)), Image.new("RGB", (3, 5), (10, 10, 250))
    save(root / "train" / "zebra" / "b.PNG", blue)
    save(root / "train" / "zebra" / "a.webp", blue, lossless=True)
    save(root / "train" / "ant" / "deep" / "er" / "c.png", red)
    save(root / "train" / "ant" / "d.JPEG", red, quality=95)
    save(root / "train" / "ant" / "a.jpg", red, quality=95)
    (root / "train" / "ant" / "notes.txt").write_text("not an image")
    (root / "train" / "readme.md").write_text("not a class")
    save(root / "dev" / "ant" / "a.png", red)
    return root


def test_folder_holds_every_image_with_its_class(folder):
    source = open_source(f"folder:{folder}", "train", channels=3)
    found = {source.describe(i): source.read(i)["label"] for i in range(len(source))}
    train = folder / "train"
    assert found == {
        str(train / "ant" / "a.jpg"): 0,
        str(train / "ant" / "d.JPEG"): 0,
        str(train / "ant" / "deep" / "er" / "c.png"): 0,
        str(train / "zebra" / "a.webp"): 1,
        str(train / "zebra" / "b.PNG"): 1,
    }


def test_folder_classes_are_sorted_by_name(folder):
    assert open_source(f"folder:{folder}", "train", channels=3).class_names == ("ant", "zebra")


def test_folder_images_keep_their_own_sizes_and_pixels(folder):
    source = open_source(f"folder:{folder}", "train", channels=3)
    for index in range(len(source)):
        image, label = source.read(index).values()
        assert image.dtype == np.uint8
        assert image.shape == ((4, 6, 3), (5, 3, 3))[label]
        colour = ((250, 10, 10), (10, 10, 250))[label]
        np.testing.assert_allclose(image, np.broadcast_to(colour, image.shape), atol=8)


def test_folder_is_in_the_order_of_names(tmp_path):
    for number in (7, 2, 11, 0, 5, 10, 3, 9, 1, 8, 4, 6):
        save(tmp_path / "train" / "x" / f"{number:02}.png", Image.new("L", (2, 2), number))
    source = open_source(f"folder:{tmp_path}", "train", channels=1)
    assert [int(image[0, 0, 0]) for image, _ in contents(source)] == list(range(12))


def test_folder_in_the_home_directory_is_found(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(open_source("folder:~/images", "dev", channels=3)) == 1


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}/nowhere does not exist"):
        open_source(f"folder:{tmp_path}/nowhere", "train", channels=3)


def test_missing_split_lists_the_splits_there_are(folder):
    with pytest.raises(UserError, match=r"'test'.*dev, train"):
        open_source(f"folder:{folder}", "test", channels=3)


def test_split_without_images_is_refused(folder):
    (folder / "empty" / "ant").mkdir(parents=True)
    (folder / "empty" / "ant" / "notes.txt").write_text("not an image")
    with pytest.raises(UserError, match="no images"):
        open_source(f"folder:{folder}", "empty", channels=3)


def gradient():
    y, x = np.mgrid[0:16, 0:16]
    return np.stack([x * 16, y * 16, 255 - x * 16], axis=-1).astype(np.uint8)


def luma(rgb):
    return np.asarray(rgb, float) @ [0.299, 0.587, 0.114]


def read_one(root, path, image, channels, **options):
    save(root / "train" / "x" / path, image, **options)
    pixels = open_source(f"folder:{root}", "train", channels=channels).read(0)["image"]
    assert pixels.dtype == np.uint8 and pixels.shape == (16, 16, channels)
    return np.asarray(pixels, float)


def test_colour_image_becomes_grey_by_its_luma(tmp_path):
    grey = read_one(tmp_path, "i.png", Image.fromarray(gradient()), 1)
    np.testing.assert_allclose(grey[..., 0], luma(gradient()), atol=1)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_grey_image_becomes_colour_by_repetition(tmp_path, suffix):
    grey = gradient()[..., 0]
    pixels = read_one(tmp_path, f"i.{suffix}", Image.fromarray(grey), 3)
    np.testing.assert_allclose(pixels, np.repeat(grey[..., None], 3, -1), atol=4)


@pytest.mark.parametrize("channels", [1, 3])
def test_transparency_is_dropped(tmp_path, channels):
    alpha = np.full((16, 16, 1), 37, np.uint8)
    image = Image.fromarray(np.concatenate([gradient(), alpha], axis=-1))
    pixels = read_one(tmp_path, "i.png", image, channels)
    expected = gradient() if channels == 3 else luma(gradient())[..., None]
    np.testing.assert_allclose(pixels, expected, atol=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_palette_is_looked_up(tmp_path, channels):
    colours = np.array([[200, 30, 60], [0, 255, 10]], np.uint8)
    places = (np.arange(256).reshape(16, 16) % 3 == 0).astype(np.uint8)
    image = Image.fromarray(places).convert("P")
    image.putpalette(colours.tobytes())
    pixels = read_one(tmp_path, "i.png", image, channels)
    expected = colours[places] if channels == 3 else luma(colours[places])[..., None]
    np.testing.assert_allclose(pixels, expected, atol=1)


@pytest.mark.parametrize("channels", [1, 3])
def test_cmyk_jpeg_becomes_light(tmp_path, channels):
    image = Image.new("CMYK", (16, 16), (40, 200, 160, 20))
    pixels = read_one(tmp_path, "i.jpg", image, channels, quality=98)
    ink, black = np.array([40, 200, 160]), 20
    rgb = (255 - ink) * (255 - black) / 255
    expected = rgb if channels == 3 else luma(rgb)
    np.testing.assert_allclose(pixels, np.broadcast_to(expected, pixels.shape), atol=6)


@pytest.mark.parametrize("channels", [1, 3])
def test_black_and_white_image_becomes_0_and_255(tmp_path, channels):
    bits = np.eye(16, dtype=bool)
    pixels = read_one(tmp_path, "i.png", Image.fromarray(bits), channels)
    np.testing.assert_array_equal(pixels, np.repeat(bits[..., None] * 255.0, channels, -1))


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bit_grey_image_keeps_its_upper_eight_bits(tmp_path, channels):
    deep = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    pixels = read_one(tmp_path, "i.png", Image.fromarray(deep), channels)
    expected = np.repeat((deep / 257)[..., None], channels, -1)
    np.testing.assert_allclose(pixels, expected, atol=1)


def test_damaged_file_is_a_corrupt_image(tmp_path):
    path = tmp_path / "train" / "x" / "i.png"
    save(path, Image.fromarray(gradient()))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    source = open_source(f"folder:{tmp_path}", "train", channels=3)
    with pytest.raises(CorruptImage):
        source.read(0)
