"""Tar shards of small pictures, as tests make and read them."""

import io
import tarfile

import numpy as np
from PIL import Image

from distill.data import open_source


def picture(number):
    return np.full((3, 4, 3), number, np.uint8)


def encoded(number, form="png"):
    data = io.BytesIO()
    Image.fromarray(picture(number)).save(data, form)
    return data.getvalue()


def pack(path, members):
    """A tar of members, a sequence of pairs of name and content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def samples(numbers, classes=3):
    """Images with labels as numbers."""
    for number in numbers:
        yield f"{number:04}.png", encoded(number)
        yield f"{number:04}.cls", str(number % classes).encode()


def opened(path, split="train", **options):
    return open_source(f"wds:{path}", split, **{"channels": 3} | options)


def numbers(source):
    """Which pictures a source holds, in order; each must have the label that goes with it."""
    examples = [source.read(index) for index in range(len(source))]
    assert [one["label"] for one in examples] == source.labels.tolist()
    return [int(one["image"][0, 0, 0]) for one in examples]
