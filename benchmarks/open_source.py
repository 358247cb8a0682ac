"""How long it takes to open a million images in tar shards, or of a list, and to read from them.

  python benchmarks/open_source.py [--images=1000000] [--shards=100] [--directory=DIR]

Makes tar shards of small images, each with its label as a second member, a list of as many images
in CSV, and prints seconds to open each for the first time, again, and with one shard changed; what
a worker process is handed and holds; and the time of a read, without decoding.
"""

import os
import pickle
import sys
import tarfile
import tempfile
import time
import tracemalloc
from pathlib import Path

# The code beside it, wherever it is run from.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from absl import flags

from distill.data import open_source

FLAGS = flags.FlagValues()
flags.DEFINE_integer("images", 1_000_000, "How many.", 1, flag_values=FLAGS)
flags.DEFINE_integer("shards", 100, "Tar files they are in.", 1, flag_values=FLAGS)
flags.DEFINE_string("directory", None, "Where to make them.", flag_values=FLAGS)

CLASSES = 1000
# Bytes of an image; what they say is not looked at.
IMAGE = bytes(400)
READS = 20_000


def make_shards(folder: Path, images: int, shards: int) -> None:
    """Makes folder/train-00000.tar and so on, of image_00000000.jpg, image_00000000.cls …"""
    for shard in range(shards):
        with open(folder / f"train-{shard:05}.tar", "wb") as tar:
            for number in range(shard, images, shards):
                label = str(number % CLASSES).encode()
                for suffix, content in (("jpg", IMAGE), ("cls", label)):
                    tar.write(header(f"image_{number:08}.{suffix}", len(content)))
                    tar.write(content.ljust(512, b"\0"))
            tar.write(bytes(1024))


def header(name: str, size: int, template: bytes = tarfile.TarInfo().tobuf()) -> bytes:
    """As tarfile writes it, in a tenth of the time."""
    data = bytearray(template)
    data[: len(name)] = name.encode()
    data[124:135] = b"%011o" % size
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data)
    return bytes(data)


def make_list(file: Path, images: int) -> None:
    """Makes a list of images that are not there."""
    with file.open("w", encoding="utf-8") as out:
        out.write("path,label\n")
        for number in range(images):
            label = number % CLASSES
            out.write(f"class_{label:04}/image_{number:08}.jpg,{label}\n")


def show(what: str, seconds: float, cpu: float) -> None:
    """Prints a line of the table."""
    print(f"{what:<36} {seconds:8.2f} s   {cpu:8.2f} CPU-s", flush=True)


def timed(what: str, name: str):
    """Opens a source and prints how long it took."""
    began, cpu = time.perf_counter(), time.process_time()
    source = open_source(name, "train", channels=3)
    show(what, time.perf_counter() - began, time.process_time() - cpu)
    return source


def show_worker(source) -> None:
    """Prints what a worker is handed, what it holds, and how long reads take."""
    data = pickle.dumps(source)
    tracemalloc.start()
    again = pickle.loads(data)  # noqa: S301
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    for what, size in {"handed to a worker": len(data), "held by a worker": held}.items():
        print(f"{what:<36} {size / len(source):8.1f} bytes an image")
    if hasattr(again, "encoded"):
        places = np.random.default_rng(0).integers(len(again), size=READS)
        began = time.perf_counter()
        for place in places.tolist():
            again.encoded(place)
        print(f"{'a read at random':<36} {(time.perf_counter() - began) / READS * 1e6:8.1f} µs")


def main(arguments: list[str]) -> None:
    """Measures what the flags ask for."""
    FLAGS(arguments)
    open_source("digits", "train", channels=3)
    with tempfile.TemporaryDirectory(dir=FLAGS.directory) as folder:
        root = Path(folder)
        (root / "shards").mkdir()
        make_shards(root / "shards", FLAGS.images, FLAGS.shards)
        print(f"{FLAGS.images:,} images in {FLAGS.shards:,} tar shards, each with its label")
        name = f"wds:{root / 'shards'}"
        source = timed("first time", name)
        timed("again", name)
        os.utime(root / "shards" / "train-00000.tar")
        timed("one shard changed", name)
        source = timed("again", name)
        show_worker(source)
        make_list(root / "train.csv", FLAGS.images)
        print(f"{FLAGS.images:,} images of a list")
        show_worker(timed("each time", f"list:{root / 'train.csv'}"))


if __name__ == "__main__":
    main(sys.argv)
