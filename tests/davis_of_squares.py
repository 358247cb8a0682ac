"""Sequences in DAVIS' layout: objects that move over a background, of sizes no patch divides."""

import numpy as np
from PIL import Image


def squares(length, height, width, seed=0):
    """Frames, uint8 [length, height, width, 3], and masks of objects 1 and 4, uint8."""
    rng = np.random.default_rng(seed)
    place = rng.integers(90, 160, (height, width, 3), np.uint8)
    frames, masks = [], []
    for number in range(length):
        frame, mask = place.copy(), np.zeros((height, width), np.uint8)
        shift = 2 * number
        for one, top, colour in ((1, height // 6, 20), (4, height // 2, 240)):
            part = np.s_[top : top + height // 4, 3 + shift : 3 + shift + width // 4]
            frame[part], mask[part] = (colour, 128, 255 - colour), one
        frames.append(frame)
        masks.append(mask)
    return np.stack(frames), np.stack(masks)


def write_sequence(root, name, frames, masks):
    """Adds a sequence to the list `val`."""
    for kind in ("JPEGImages", "Annotations"):
        (root / kind / "480p" / name).mkdir(parents=True)
    for number, (pixels, mask) in enumerate(zip(frames, masks, strict=True)):
        # Without loss, whatever the name says: what a decoder makes of JPEG is no matter here.
        file = root / "JPEGImages" / "480p" / name / f"{number:05d}.jpg"
        Image.fromarray(pixels).save(file, format="PNG")
        Image.fromarray(mask).save(root / "Annotations" / "480p" / name / f"{number:05d}.png")
    lists = root / "ImageSets" / "2017"
    lists.mkdir(parents=True, exist_ok=True)
    with (lists / "val.txt").open("a") as file:
        file.write(f"{name}\n")
