"""Clips of a dot that goes round to the left or to the right: single frames say nothing."""

import numpy as np
from PIL import Image

SIDE = 8
CLASSES = ("left", "right")


def dot(start, step, length, row=3, shade=240):
    """Frames, uint8 [length, SIDE, SIDE, 3], whose dot moves by `step` columns each."""
    frames = np.full((length, SIDE, SIDE, 3), 30, np.uint8)
    for number, frame in enumerate(frames):
        frame[row : row + 2, (start + step * number) % SIDE] = shade
    return frames


def write_clip(folder, frames):
    folder.mkdir(parents=True)
    for number, pixels in enumerate(frames):
        Image.fromarray(pixels).save(folder / f"{number:05d}.png")


def write_dots(root, clips, length=SIDE):
    """`clips` of each class in each split; both classes have the same rows and first columns."""
    for split, shade in (("train", 240), ("test", 210)):
        for name, step in zip(CLASSES, (-1, 1), strict=True):
            for number in range(clips):
                frames = dot(number % 3, step, length, 2 * (number // 3 % 3), shade)
                write_clip(root / split / name / f"{number}", frames)
