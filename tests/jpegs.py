"""JPEGs of all kinds that can be cut, made by two encoders."""

import io

import numpy as np
import simplejpeg
from PIL import Image


def photograph(height, width, seed=0, roughness=1.2):
    """Noise whose spectrum falls as a photograph's does, uint8 [height, width, 3]."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    amplitude = np.maximum(frequency, 1 / max(height, width)) ** -roughness
    noise = np.random.default_rng(seed).standard_normal((3, height, width))
    planes = np.fft.irfft2(np.fft.rfft2(noise) * amplitude, (height, width))
    planes *= np.array([50, 25, 25])[:, None, None] / (planes.std() + 1e-9)
    pixels = np.clip(planes + 128, 0, 255).astype(np.uint8).transpose(1, 2, 0)
    return np.asarray(Image.fromarray(pixels, "YCbCr").convert("RGB"))


def pillow(pixels, **options):
    """Encoded by Pillow, which writes optimised tables, restart markers and metadata."""
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(data, "JPEG", **options)
    return data.getvalue()


def rotated(orientation, **options):
    """Metadata that says how an image is turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return {"exif": exif, **options}


def turbo(pixels, quality, sampling):
    """Encoded by libjpeg-turbo, which knows more samplings."""
    if sampling == "Gray":
        return simplejpeg.encode_jpeg(pixels[..., :1].copy(), quality, "GRAY", sampling)
    return simplejpeg.encode_jpeg(pixels, quality, "RGB", sampling)


KINDS = {
    "4:2:0": lambda pixels: pillow(pixels, quality=85, subsampling=2),
    "4:2:2": lambda pixels: pillow(pixels, quality=60, subsampling=1),
    "4:4:4": lambda pixels: pillow(pixels, quality=95, subsampling=0),
    "4:4:0": lambda pixels: turbo(pixels, 80, "440"),
    "4:1:1": lambda pixels: turbo(pixels, 80, "411"),
    "grey": lambda pixels: pillow(pixels[..., 0], quality=85),
    "grey by turbo": lambda pixels: turbo(pixels, 10, "Gray"),
    "RGB": lambda pixels: pillow(pixels, quality=85, keep_rgb=True, subsampling=0),
    "optimised": lambda pixels: pillow(pixels, quality=75, optimize=True),
    "best": lambda pixels: turbo(pixels, 100, "420"),
    "worst": lambda pixels: pillow(pixels, quality=10, subsampling=2),
    "markers in rows": lambda pixels: pillow(pixels, quality=85, restart_marker_rows=1),
    "markers anywhere": lambda pixels: pillow(pixels, quality=85, restart_marker_blocks=5),
    "metadata": lambda pixels: pillow(
        pixels, **rotated(6, quality=85, icc_profile=bytes(70_000), comment="a comment")
    ),
}
