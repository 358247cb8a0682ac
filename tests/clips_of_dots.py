"""Clips of a dot that goes round to the left or to the right: single frames say nothing."""

import numpy as np
from PIL import Image

SIDE = 8
CLASSES = ("left", "right")


def dot(start, step, length, height=SIDE, width=SIDE):
    """Frames, uint8 [length, height, width, 3], whose dot moves by `step` columns each."""
    frames = np.full((length, height, width, 3), 30, np.uint8)
    for number, frame in enumerate(frames):
        column = (start + step * number) % width
        frame[height // 2 - 1 : height // 2 + 1, column] = 240
    return frames


def write_clip(folder, frames):
    folder.mkdir(parents=True)
    for number, pixels in enumerate(frames):
        Image.fromarray(pixels).save(folder / f"{number:05d}.png")


def write_dots(root, clips, length=SIDE, seed=0):
    """`clips` of each class in each split, each beginning at another column."""
    rng = np.random.default_rng(seed)
    for split in ("train", "test"):
        for name, step in zip(CLASSES, (-1, 1), strict=True):
            for number, start in enumerate(rng.permutation(SIDE)[:clips].tolist()):
                write_clip(root / split / name / f"{number}", dot(start, step, length))
    return root
