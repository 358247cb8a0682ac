"""Folders of small photographs in classes that can be told apart, as tests of whole lines use."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("crossed", "level", "upright")


def photograph(kind: int, seed: int, size: tuple[int, int] = (40, 56)) -> Image.Image:
    """Stripes of a class's direction, in colours of its own, with noise."""
    rng = np.random.default_rng((kind, seed))
    height, width = size[0] + seed % 5, size[1] - seed % 7
    y, x = np.mgrid[:height, :width]
    pace, phase = rng.uniform(0.3, 0.6), rng.uniform(0, 6)
    stripes = [np.sin(pace * (x + y)) * np.cos(pace * (x - y)), np.sin(pace * y), np.sin(pace * x)]
    pattern = stripes[kind] if phase < 3 else -stripes[kind]
    colours = [pattern * rng.uniform(60, 100) + rng.uniform(90, 150) for _ in range(3)]
    pixels = np.stack(colours, axis=-1) + rng.normal(0, 10, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def in_classes(root: Path, each: int) -> Path:
    """root/class/image.jpg, so many in each of three classes."""
    for kind, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for seed in range(each):
            photograph(kind, seed).save(root / name / f"{seed:03}.jpg")
    return root


def flat(root: Path, count: int, damaged: int = 0) -> Path:
    """root/image.jpg without classes, of which the first few are cut off."""
    root.mkdir(parents=True)
    for seed in range(count):
        photograph(seed % 3, seed).save(root / f"{seed:03}.jpg")
    for seed in range(damaged):
        file = root / f"{seed:03}.jpg"
        file.write_bytes(file.read_bytes()[:200])
    return root
