"""From an encoded image to its pixels."""

import dataclasses
import functools
import io
import struct
import warnings

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError, features

from distill.data.fast import MAX_PIXELS, MOST_SCANS, Decoder, decode_jpeg, has_many_scans
from distill.data.sources.base import CorruptImage
from distill.data.sources.jpeg_images import JpegImage, jpeg_image
from distill.errors import RunFailed

# What Pillow decodes by itself, whatever a file is called: no EPS, for which it runs Ghostscript,
# no stubs for other programs' formats. TGA has no signature and is tried last.
_FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "AVIF",
    "GIF",
    "TIFF",
    "BMP",
    "DIB",
    "JPEG2000",
    "PPM",
    "QOI",
    "PCX",
    "SGI",
    "ICO",
    "TGA",
)
# The libraries that some of them need.
_LIBRARIES = {
    "JPEG": "jpg",
    "PNG": "zlib",
    "WEBP": "webp",
    "AVIF": "avif",
    "JPEG2000": "jpg_2000",
}

# Cameras and editors write more text and larger colour profiles than the 1 MiB that Pillow allows;
# this bound still holds off a file that unpacks to gigabytes.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY

# A config's own bound stands in place of what Pillow says of images of half its own.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)

_ORIENTATION = 0x0112
_PNG, _ICON = b"\x89PNG\r\n\x1a\n", b"\0\0\1\0"


@functools.cache
def formats() -> tuple[str, ...]:
    """The formats that can be decoded here, by Pillow's names."""
    Image.init()
    return tuple(
        name for name in _FORMATS if name not in _LIBRARIES or features.check(_LIBRARIES[name])
    )


@functools.cache
def suffixes() -> frozenset[str]:
    """Of files in these formats, in lower case with their dots."""
    # Pillow opens MPO, several JPEG images in a file, as JPEG.
    there = {name: name for name in formats()} | {"MPO": "JPEG"}
    names = Image.registered_extensions().items()
    # Portable float maps say nothing of their range; see `decode`.
    return frozenset(s for s, name in names if there.get(name) in formats() and s != ".pfm")


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How a source's encoded images become pixels."""

    channels: int = 3
    """1 for grey or 3 for colour; images are converted."""
    exif_orientation: bool = False
    """Whether images are turned as their EXIF orientation says."""
    decoder: Decoder = "fast"
    """The pixels are the same; see `distill.data.fast`."""
    max_pixels: int = MAX_PIXELS
    """An image that declares more is corrupt: nothing of it is decoded."""

    def __call__(self, data: bytes) -> np.ndarray | JpegImage:
        """The image of a file, uint8 [height, width, channels], decoded where it is looked at.

        Raises:
          CorruptImage: as `decode`; what stands for a JPEG raises it when it is looked at.
        """
        turned = self.exif_orientation and _may_be_turned(data)
        if self.decoder == "fast" and self.channels == 3 and not turned:
            image = jpeg_image(data, self.whole, most_pixels=self.max_pixels)
            if image is not None:
                return image
        return self.whole(data)

    def whole(self, data: bytes) -> np.ndarray:
        """Decodes a whole file to uint8 [height, width, channels]; raises what `decode` does."""
        if self.decoder == "fast" and self.channels == 3:
            pixels = decode_jpeg(data, self.max_pixels)
            if pixels is not None:
                return _turned(pixels, _orientation_of(data)) if self.exif_orientation else pixels
        return decode(
            data,
            self.channels,
            exif_orientation=self.exif_orientation,
            max_pixels=self.max_pixels,
        )


def decode(
    data: bytes, channels: int, *, exif_orientation: bool = False, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Decodes an encoded image to uint8 [height, width, channels].

    Transparency is dropped, of an animation the first frame taken, and of 16 bits the upper eight.

    Args:
      data: of the whole file.
      channels: 1 for grey or 3 for colour.
      exif_orientation: whether to turn the image as its EXIF orientation says.
      max_pixels: the most that it may have.

    Raises:
      CorruptImage: if it is truncated, no image, larger than `max_pixels`, or its pixels have no
        known range (32-bit integers and floating point).
      RunFailed: if there is not enough memory.
    """
    mode, allowed = {1: "L", 3: "RGB"}[channels], formats()
    try:
        if has_many_scans(data):
            raise CorruptImage(f"it has more than {MOST_SCANS} scans; encode it anew")
        if data.startswith(_ICON):
            _check_icon(data, max_pixels)
        with Image.open(io.BytesIO(data), formats=allowed) as image:
            check_size(*image.size, max_pixels)
            image.load()
            orientation = _orientation(image) if exif_orientation else 1
            pixels = np.asarray(_eight_bits(image).convert(mode))
    except UnidentifiedImageError as error:
        raise CorruptImage("it is no image in a format that can be read") from error
    except MemoryError as error:
        # The machine's fault, not the file's.
        raise RunFailed(
            f"there is not enough memory to decode an image of {len(data):,} bytes. Lower "
            "config.data.workers or config.data.threads, or free memory"
        ) from error
    except CorruptImage:
        raise
    # Decoders let through whatever damage makes them stumble on: OSError and ValueError mostly,
    # but also IndexError, KeyError, RuntimeError, struct.error, zlib.error and more.
    except Exception as error:
        raise CorruptImage(str(error) or type(error).__name__) from error
    pixels = pixels if channels == 3 else pixels[..., None]
    return _turned(pixels, orientation)


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Checks what an image declares, before it is decoded.

    Raises:
      CorruptImage: if it is more.
    """
    if width * height > max_pixels:
        raise CorruptImage(
            f"it has {width:,} × {height:,} pixels, and config.data.max_pixels is {max_pixels:,}; "
            "shrink it, or allow more"
        )


def _check_icon(data: bytes, max_pixels: int) -> None:
    """As `check_size`, of the PNGs in an icon: Pillow decodes one as soon as it opens the file."""
    start = data.find(_PNG)
    while start >= 0 and start + 24 <= len(data):
        check_size(*struct.unpack(">II", data[start + 16 : start + 24]), max_pixels)
        start = data.find(_PNG, start + 1)


def _eight_bits(image: Image.Image) -> Image.Image:
    """The image itself, or one of 16 bits scaled; Pillow's own conversion clips at 255."""
    # Of portable grey maps with more than 8 bits, Pillow scales values to 16 bits in this mode.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(
            f"its pixels are 32-bit {'integers' if image.mode == 'I' else 'floats'} of unknown "
            "range; convert it to 8 or 16 bits"
        )
    return image


def _orientation(image: Image.Image) -> int:
    """As in EXIF, 1 to 8; 1 where there is none that can be read."""
    try:
        return image.getexif().get(_ORIENTATION, 1)
    # Of an image whose pixels are sound; its EXIF may be anything.
    except Exception:  # noqa: BLE001
        return 1


def _orientation_of(data: bytes) -> int:
    """That of a file that can be decoded."""
    with Image.open(io.BytesIO(data), formats=formats()) as image:
        return _orientation(image)


def _may_be_turned(data: bytes) -> bool:
    """Whether a file has an orientation, or cannot be opened to tell."""
    try:
        return _orientation_of(data) != 1
    # Whatever a decoder stumbles on; that of the whole says what is wrong.
    except Exception:  # noqa: BLE001
        return True


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Upright, from pixels stored with an EXIF orientation (CIPA DC-008, 4.6.5.1)."""
    # The first four mirror rows, columns or both; the others do so after swapping the two.
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
