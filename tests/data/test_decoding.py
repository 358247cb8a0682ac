"""Encoded images of all kinds become the right pixels, and damaged ones corrupt images."""

import dataclasses
import io
import struct
import subprocess
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from distill.data import DataConfig, fast, open_source
from distill.data.sources import CorruptImage, decode, decoding
from distill.errors import RunFailed

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 16, 3), np.uint8)


def encoded(image, form, **options):
    data = io.BytesIO()
    image.save(data, form, **options)
    return data.getvalue()


COLOUR, GREY = Image.fromarray(PIXELS), Image.fromarray(PIXELS[..., 0])
LOSSLESS = {
    "png": encoded(COLOUR, "PNG"),
    "apng": encoded(COLOUR, "PNG", save_all=True, append_images=[GREY.convert("RGB")]),
    "webp": encoded(COLOUR, "WEBP", lossless=True),
    "tif": encoded(COLOUR, "TIFF"),
    "tiff": encoded(COLOUR, "TIFF", compression="tiff_lzw"),
    "bmp": encoded(COLOUR, "BMP"),
    "dib": encoded(COLOUR, "DIB"),
    "jp2": encoded(COLOUR, "JPEG2000"),
    "ppm": encoded(COLOUR, "PPM"),
    "qoi": encoded(COLOUR, "QOI"),
    "pcx": encoded(COLOUR, "PCX"),
    "sgi": encoded(COLOUR, "SGI"),
    "tga": encoded(COLOUR, "TGA"),
    "ico": encoded(Image.fromarray(PIXELS[:16]), "ICO"),
}
FLAT = Image.new("RGB", (24, 24), (200, 90, 30))
LOSSY = {
    "jpg": encoded(FLAT, "JPEG"),
    "jpe": encoded(FLAT, "JPEG", progressive=True),
    "jfif": encoded(FLAT, "JPEG"),
    "mpo": encoded(FLAT, "MPO", save_all=True, append_images=[Image.new("RGB", (24, 24))]),
    "gif": encoded(FLAT, "GIF", save_all=True, append_images=[Image.new("RGB", (24, 24))]),
    "avif": encoded(FLAT, "AVIF"),
}


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_lossless_formats_give_their_pixels(suffix):
    expected = PIXELS[:16] if suffix == "ico" else PIXELS
    np.testing.assert_array_equal(decode(LOSSLESS[suffix], 3), expected)


@pytest.mark.parametrize("suffix", LOSSY)
def test_lossy_formats_give_the_first_image(suffix):
    np.testing.assert_allclose(decode(LOSSY[suffix], 3), np.asarray(FLAT), atol=6)


def test_files_of_all_formats_are_found_by_their_suffixes(tmp_path):
    for suffix, data in (LOSSLESS | LOSSY).items():
        path = tmp_path / "train" / "x" / f"{suffix}.{suffix.upper()}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    source = open_source(f"folder:{tmp_path}", "train", channels=3)
    assert len(source) == len(LOSSLESS) + len(LOSSY)
    assert all(source.read(index)["image"].dtype == np.uint8 for index in range(len(source)))


@pytest.mark.parametrize("suffix", LOSSLESS | LOSSY)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_truncated_images_are_corrupt(suffix, share):
    data = (LOSSLESS | LOSSY)[suffix]
    # Beyond the first frame or image, nothing of a file is read.
    frames = {"gif": 0.5, "mpo": 0.4, "apng": 0.4}
    with pytest.raises(CorruptImage):
        decode(data[: int(len(data) * share * frames.get(suffix, 1))], 3)


@pytest.mark.parametrize("suffix", LOSSLESS | LOSSY)
def test_changed_bytes_make_corrupt_images_or_others_and_nothing_else(suffix):
    rng, data = np.random.default_rng(1), (LOSSLESS | LOSSY)[suffix]
    for _ in range(40):
        changed = np.frombuffer(data, np.uint8).copy()
        # Headers are where decoders stumble.
        places = rng.integers(0, min(len(data), 200), 3)
        changed[places] = rng.integers(0, 256, 3)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert decode(changed.tobytes(), 3).shape[2] == 3
        except CorruptImage as error:
            assert str(error)


def chunk(kind, data):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def test_a_png_with_a_late_empty_profile_is_corrupt():
    data = LOSSLESS["png"]
    end = data.index(b"IEND") - 4
    with pytest.raises(CorruptImage):
        decode(data[:end] + chunk(b"iCCP", b"") + data[end:], 3)


def test_a_broken_avif_is_corrupt_whatever_its_name(tmp_path):
    data = LOSSY["avif"]
    middle = data.index(b"mdat") + 4
    (tmp_path / "train" / "x").mkdir(parents=True)
    broken = data[:middle] + b"\xff" * (len(data) - middle)
    (tmp_path / "train" / "x" / "i.jpg").write_bytes(broken)
    with pytest.raises(CorruptImage):
        open_source(f"folder:{tmp_path}", "train", channels=3).read(0)


class Stumbling:
    """Stands for a decoder that raises an error of a given kind."""

    def __init__(self, error):
        self.error = error

    def __call__(self, *_, **__):
        raise self.error


@pytest.mark.parametrize(
    "error", [IndexError(), KeyError(3), RuntimeError("no"), struct.error(), zlib.error()]
)
def test_whatever_a_decoder_raises_is_a_corrupt_image_with_a_reason(monkeypatch, error):
    monkeypatch.setattr(decoding.Image, "open", Stumbling(error))
    with pytest.raises(CorruptImage, match=r"\w"):
        decode(b"", 3)


def test_running_out_of_memory_is_not_the_images_fault(monkeypatch):
    monkeypatch.setattr(decoding.Image, "open", Stumbling(MemoryError()))
    with pytest.raises(RunFailed, match="not enough memory to decode"):
        decode(b"", 3)


@pytest.mark.parametrize("kind", ["text", "profile"])
def test_megabytes_of_text_or_profile_are_no_damage(kind):
    large = b"x" * (3 << 20)
    if kind == "text":
        info = PngImagePlugin.PngInfo()
        info.add_text("comment", large.decode(), zip=True)
        data = encoded(COLOUR, "PNG", pnginfo=info)
    else:
        data = encoded(COLOUR, "PNG", icc_profile=large)
    np.testing.assert_array_equal(decode(data, 3), PIXELS)


def test_text_that_unpacks_without_end_is_refused():
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * (65 << 20), zip=True)
    with pytest.raises(CorruptImage):
        decode(encoded(GREY, "PNG", pnginfo=info), 3)


def test_formats_that_another_program_would_decode_are_refused(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", Stumbling(AssertionError("a program was started")))
    with pytest.raises(CorruptImage, match="no image in a format that can be read"):
        decode(encoded(COLOUR, "EPS"), 3)


def test_what_is_no_image_says_so_without_addresses():
    with pytest.raises(CorruptImage, match=r"^it is no image in a format that can be read$"):
        decode(b"<html>404 Not Found</html>", 3)


DEEP = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)


def pgm(values):
    return b"P5 16 16 65535\n" + values.astype(">u2").tobytes()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encoded(Image.fromarray(DEEP), "PNG"), id="png"),
        pytest.param(encoded(Image.fromarray(DEEP), "TIFF"), id="tiff"),
        pytest.param(encoded(Image.fromarray(DEEP), "JPEG2000"), id="jp2"),
        pytest.param(pgm(DEEP), id="pgm"),
    ],
)
def test_sixteen_bits_keep_their_upper_eight(data):
    np.testing.assert_allclose(decode(data, 1)[..., 0], DEEP / 257, atol=1)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_of_unknown_range_are_refused_with_the_reason(dtype):
    data = encoded(Image.fromarray(np.full((4, 4), 70_000, dtype)), "TIFF")
    with pytest.raises(CorruptImage, match=r"32-bit .* of unknown range"):
        decode(data, 3)


def test_transparency_of_grey_is_dropped():
    both = np.stack([PIXELS[..., 0], PIXELS[..., 1]], -1)
    data = encoded(Image.fromarray(both, "LA"), "PNG")
    np.testing.assert_array_equal(decode(data, 1)[..., 0], PIXELS[..., 0])


def oriented(orientation, form="JPEG", **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(COLOUR, form, exif=exif, **options)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_images_are_turned_as_their_exif_orientation_says(orientation, form, options):
    data = oriented(orientation, form, **options)
    with Image.open(io.BytesIO(data)) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    found = decode(data, 3, exif_orientation=True)
    np.testing.assert_array_equal(found, upright)
    assert found.flags["C_CONTIGUOUS"]


def test_images_are_taken_as_they_are_stored_unless_asked():
    np.testing.assert_array_equal(decode(oriented(6, "PNG"), 3), PIXELS)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation):
    found = decode(oriented(orientation, "PNG"), 3, exif_orientation=True)
    np.testing.assert_array_equal(found, PIXELS)


def test_damaged_exif_does_not_damage_the_pixels():
    data = encoded(COLOUR, "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    np.testing.assert_array_equal(decode(data, 3, exif_orientation=True), PIXELS)


def test_a_source_turns_its_images_when_asked(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "i.png").write_bytes(oriented(6, "PNG"))
    for asked, shape in ((False, PIXELS.shape), (True, (16, 24, 3))):
        config = DataConfig(source=f"images:{tmp_path}", exif_orientation=asked)
        source = config.open("train", channels=3)
        assert source.read(0)["image"].shape == shape


@pytest.mark.parametrize("suffix", [*LOSSLESS, *LOSSY])
def test_an_image_of_more_pixels_than_allowed_is_corrupt_in_every_format(suffix, monkeypatch):
    data = (LOSSLESS | LOSSY)[suffix]
    height, width, _ = decode(data, 3).shape
    for decoder in ("fast", "pillow"):
        for channels in (1, 3):
            allowed = decoding.Decoding(channels, decoder=decoder, max_pixels=height * width)
            assert np.asarray(allowed(data)).shape == (height, width, channels)
    if suffix != "ico":
        monkeypatch.setattr(Image.Image, "load", pytest.fail)
    for decoder in ("fast", "pillow"):
        for channels in (1, 3):
            less = decoding.Decoding(channels, decoder=decoder, max_pixels=height * width - 1)
            with pytest.raises(CorruptImage, match=f"it has {width} × {height} pixels, and config"):
                less(data)


def test_a_png_in_an_icon_has_the_pixels_that_it_declares_itself():
    data = encoded(Image.new("RGB", (200, 100)), "PNG")
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(data), 22)
    icon = struct.pack("<HHH", 0, 1, 1) + entry + data
    with pytest.raises(CorruptImage, match=r"it has 200 × 100 pixels, .*max_pixels is 1,000"):
        decode(icon, 3, max_pixels=1000)


def test_the_default_bound_holds_off_a_small_file_of_many_pixels():
    def chunk(name, content):
        crc = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", 12_000, 12_000, 8, 2, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(bytes(36_001)))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        with pytest.raises(CorruptImage, match=r"12,000 × 12,000 pixels, .* is 67,108,864; shrink"):
            decode(data, 3)


def test_the_bound_of_a_config_reaches_the_images_of_a_folder_which_count_as_corrupt(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        COLOUR.save(tmp_path / "train" / name / "x.png")
    config = DataConfig(source=f"folder:{tmp_path}", max_pixels=24 * 16 - 1)
    with pytest.raises(CorruptImage, match="max_pixels is 383"):
        config.open("train", channels=3).read(0)
    allowed = dataclasses.replace(config, max_pixels=24 * 16)
    assert allowed.open("train", channels=3).read(0)["image"].shape == (24, 16, 3)


def test_a_jpeg_of_many_scans_is_corrupt_and_one_that_only_holds_their_markers_is_not():
    data = encoded(FLAT, "JPEG", progressive=True)
    scan = data[data.rfind(b"\xff\xda") : -2]
    for times in (90, 91, 5000):
        scans = data.count(b"\xff\xda") + times
        again = data[:-2] + times * scan + b"\xff\xd9"
        for decoder in ("fast", "pillow"):
            decode_whole = decoding.Decoding(3, decoder=decoder).whole
            if scans <= fast.MOST_SCANS:
                np.testing.assert_array_equal(decode_whole(again), decode(data, 3))
                continue
            with pytest.raises(CorruptImage, match="more than 100 scans; encode it anew"):
                decode_whole(again)
    preview = b"\xff\xe3" + struct.pack(">H", 2 + 1000) + 500 * b"\xff\xda"
    for same in (data[:2] + preview + data[2:], data + 1000 * b"\xff\xda"):
        np.testing.assert_array_equal(decoding.Decoding(3).whole(same), decode(data, 3))
