"""A folder of image files of all kinds, as tests of prepared data use it."""

from pathlib import Path

import jpegs
from PIL import Image


def write_folder(root: Path) -> Path:
    """Writes root/train/{a,b} and root/val/a; two of the files are no images.

    Of the others, JPEGs of the kinds of `jpegs` are those that can be marked.
    """
    for folder in ("train/a", "train/b", "val/a"):
        (root / folder).mkdir(parents=True)
    for number, encode in enumerate(jpegs.KINDS.values()):
        pixels = jpegs.photograph(100 + 7 * number, 150 - 5 * number, seed=number)
        file = root / "train" / "ab"[number % 2] / f"{number:02}.jpg"
        file.write_bytes(encode(pixels))
    pixels = jpegs.photograph(90, 120)
    image = Image.fromarray(pixels)
    image.save(root / "train/a/progressive.jpg", progressive=True)
    image.convert("CMYK").save(root / "train/a/cmyk.jpg")
    image.save(root / "train/b/lossless.png")
    whole = jpegs.pillow(pixels, quality=80)
    (root / "train/b/truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "train/b/empty.jpg").write_bytes(b"")
    (root / "train/b/small.jpg").write_bytes(jpegs.pillow(pixels[:40, :50], quality=80))
    (root / "val/a/turned.jpg").write_bytes(jpegs.pillow(pixels, **jpegs.rotated(5)))
    return root
