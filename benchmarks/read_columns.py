"""How long it takes to read images in columns of tables at random and in order, not decoded.

  python benchmarks/read_columns.py [--images=2000] [--size=70000] [--directory=DIR]

Writes images of random bytes as Parquet files, in row groups and codecs as data sets have them, and
as an Arrow stream. Prints, in µs of CPU time an image: reading at random once every page has been
met; in order, from the first read on; and at random by Arrow, which reads a row group for each
image. Of Arrow streams, Arrow maps the file into memory and reads rows of it.
"""

import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

# The code beside it, wherever it is run from.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl import flags

from distill.data import open_source

FLAGS = flags.FlagValues()
flags.DEFINE_integer("images", 2000, "How many.", 1, flag_values=FLAGS)
flags.DEFINE_integer("size", 70_000, "Bytes of an image, on average.", 2, flag_values=FLAGS)
flags.DEFINE_string("directory", None, "Where to make them.", flag_values=FLAGS)

# Images that Arrow reads: a row group for each takes long.
ARROW_READS = 40

CASES = {
    "no codec, groups of 100": ("none", 100, False),
    "no codec, by dictionary, of 100": ("none", 100, True),
    "snappy, groups of 100": ("snappy", 100, False),
    "snappy, by dictionary, of 100": ("snappy", 100, True),
    "snappy, groups of 1000": ("snappy", 1000, False),
    "zstd, groups of 100": ("zstd", 100, False),
    "zstd, groups of 1000": ("zstd", 1000, False),
}


def make(images: int, size: int) -> Any:
    """A table of images of half to three halves of the size, with labels."""
    rng = np.random.default_rng(0)
    data = [rng.bytes(int(n)) for n in rng.integers(size // 2, size * 3 // 2, images)]
    paths = [f"{number}.jpg" for number in range(images)]
    column = pa.StructArray.from_arrays([pa.array(data), pa.array(paths)], ["bytes", "path"])
    return pa.table({"image": column, "label": np.arange(images) % 10})


def microseconds(read: Callable[[int], object], indices: Iterable[int]) -> float:
    """CPU time of a read."""
    indices = list(indices)
    began = time.process_time()
    for index in indices:
        read(index)
    return (time.process_time() - began) / len(indices) * 1e6


def show(what: str, name: str, by_arrow: Callable[[int], object], images: int) -> None:
    """Prints a line of the table."""
    drawn = random.Random(0).sample(range(images), images)
    fresh: Any = open_source(name, "train", channels=3)
    in_order = microseconds(fresh.encoded, range(images))
    source: Any = open_source(name, "train", channels=3)
    microseconds(source.encoded, range(images))
    at_random = microseconds(source.encoded, drawn)
    arrow = microseconds(by_arrow, drawn[:ARROW_READS])
    print(f"{what:<34} {at_random:10.0f} {in_order:10.0f} {arrow:10.0f}", flush=True)


def main(arguments: list[str]) -> None:
    """Measures what the flags ask for."""
    FLAGS(arguments)
    images = FLAGS.images
    table = make(images, FLAGS.size)
    print(f"{'µs an image':<34} {'at random':>10} {'in order':>10} {'by Arrow':>10}")
    with tempfile.TemporaryDirectory(dir=FLAGS.directory) as folder:
        for number, (what, (codec, rows, by_dictionary)) in enumerate(CASES.items()):
            file = Path(folder, str(number), "train.parquet")
            file.parent.mkdir()
            options = {"compression": codec, "use_dictionary": by_dictionary}
            pq.write_table(table, file, row_group_size=rows, **options)
            opened = pq.ParquetFile(file)

            def of_group(index: int, opened: Any = opened, rows: int = rows) -> bytes:
                group = opened.read_row_group(index // rows, columns=["image.bytes"])
                return group["image"][index % rows].as_py()["bytes"]

            show(what, f"parquet:{file}", of_group, images)
        file = Path(folder, "train.arrow")
        with pa.ipc.new_stream(file, table.schema) as out:
            out.write_table(table, max_chunksize=100)
        with pa.memory_map(str(file)) as mapped:
            column = pa.ipc.open_stream(mapped).read_all()["image"]
            show("Arrow stream", f"hf:{file}", lambda index: column[index].as_py(), images)


if __name__ == "__main__":
    main(sys.argv)
