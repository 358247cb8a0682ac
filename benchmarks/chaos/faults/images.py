"""Images of all formats with bytes that are no longer what they were, through the decoders."""

import io
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.chaos.attempts import attempt
from benchmarks.chaos.fault import Fault, Outcome
from benchmarks.chaos.mutations import mutated
from distill.data.jpeg import UnsupportedJpeg, with_restarts
from distill.data.sources.decoding import Decoding
from distill.data.views import ViewConfig, evaluation_view, generator, training_view

SIZE = 32
_FORMATS = {
    "baseline.jpg": dict(format="JPEG", quality=85),
    "progressive.jpg": dict(format="JPEG", progressive=True),
    "rows.jpg": dict(format="JPEG", restart_marker_rows=1),
    "exif.jpg": dict(
        format="JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\6"
    ),
    "plain.png": dict(format="PNG"),
    "lossy.webp": dict(format="WEBP"),
    "lossless.webp": dict(format="WEBP", lossless=True),
    "plain.tiff": dict(format="TIFF"),
    "deflate.tiff": dict(format="TIFF", compression="tiff_adobe_deflate"),
    "lzw.tiff": dict(format="TIFF", compression="tiff_lzw"),
    "plain.gif": dict(format="GIF"),
    "plain.bmp": dict(format="BMP"),
    "plain.ico": dict(format="ICO"),
    "plain.jp2": dict(format="JPEG2000"),
    "plain.avif": dict(format="AVIF"),
    "plain.ppm": dict(format="PPM"),
    "plain.tga": dict(format="TGA"),
    "plain.sgi": dict(format="SGI"),
    "plain.pcx": dict(format="PCX"),
}


def prepare(given: Path) -> None:
    """Writes an image of each format that can be written here, and JPEGs that can be cut."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 20, (100, 140, 3)) + np.linspace(40, 200, 140)[:, None]
    image = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
    for name, options in _FORMATS.items():
        content = io.BytesIO()
        try:
            image.save(content, **options)
        except (KeyError, OSError):
            continue
        (given / name).write_bytes(content.getvalue())
        try:
            (given / f"cut-{name}").write_bytes(with_restarts(content.getvalue()))
        except UnsupportedJpeg:
            continue
    image.convert("L").save(given / "grey.jpg")
    image.convert("L").save(given / "grey.png")
    image.convert("CMYK").save(given / "cmyk.jpg")
    image.convert("P").save(given / "palette.png")


def trial(random: Random, directory: Path, given: Path) -> Outcome:
    """Reads a mutated image in all ways that training and evaluation do."""
    file = random.choice(sorted(given.glob("*.*")))
    content = mutated(file.read_bytes(), random)
    (directory / file.name).write_bytes(content)
    decoder = random.choice(("fast", "fast", "pillow"))
    decoding = Decoding(random.choice((1, 3, 3)), random.random() < 0.3, decoder)

    def read() -> bool:
        pixels: Any = decoding(content)
        views = [
            np.asarray(training_view(pixels, SIZE, ViewConfig(), generator(0, 0, number)))
            for number in range(2)
        ]
        views.append(np.asarray(evaluation_view(pixels, SIZE, ViewConfig().evaluation)))
        whole = np.asarray(pixels)
        sound = whole.ndim == 3 and whole.shape[2] == decoding.channels
        return sound and all(view.shape[:2] == (SIZE, SIZE) for view in views)

    return attempt(f"{file.name} by {decoder}, {decoding.channels} channels", read)


FAULT = Fault(
    name="images",
    tries="images of 15 formats, also JPEGs that are decoded in part, with one to eight changes of "
    "bits, bytes, lengths or whole parts, through the decoders and views of training",
    trials=3000,
    trial=trial,
    prepare=prepare,
    seconds=60,
    commands=False,
    together=200,
)
