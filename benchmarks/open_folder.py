"""How long it takes to open a folder of images, beside walking over it.

  python benchmarks/open_folder.py [--files=100000] [--classes=100] [--rounds=7] [--directory=DIR]

Makes a folder of empty files and measures, in turns: a bare recursive `os.scandir`; opening it as
`folder:`; the same files as a folder without splits, one of those that are drawn, and a run's
three; a slice; and what a worker process costs, pickling and unpickling. Prints the median of the
rounds, and what the source holds in memory.
"""

import pickle
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

# The code beside it, wherever it is run from.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import os

from absl import flags

from distill.data import DataConfig, open_source
from distill.errors import UserError

FLAGS = flags.FlagValues()
flags.DEFINE_integer("files", 100_000, "How many.", 1, flag_values=FLAGS)
flags.DEFINE_integer("classes", 100, "Folders they are in.", 1, flag_values=FLAGS)
flags.DEFINE_integer("rounds", 7, "Measurements of each.", 1, flag_values=FLAGS)
flags.DEFINE_string("directory", None, "Where to make the folder.", flag_values=FLAGS)


def make(root: Path, files: int, classes: int) -> None:
    """Makes root/train/class/image.jpg, empty."""
    for number in range(classes):
        folder = root / "train" / f"class_{number:05}"
        folder.mkdir(parents=True)
        for place in range(number, files, classes):
            (folder / f"image_{place:08}.jpg").touch()


def walk(path: Path | str) -> int:
    """How many files there are, by a bare walk."""
    count = 0
    with os.scandir(path) as entries:
        for entry in entries:
            count += walk(entry.path) if entry.is_dir() else 1
    return count


def measure(actions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, taken in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            began = time.perf_counter()
            action()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def run(root: Path, rounds: int) -> None:
    """Measures and prints the table."""

    def opened(folder: Path = root, split: str = "train"):
        return open_source(f"folder:{folder}", split, channels=3)

    three = DataConfig(source=f"folder:{root / 'train'}")
    tracemalloc.start()
    source = opened()
    memory = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    pickled = pickle.dumps(source)
    actions = {
        "bare walk": lambda: walk(root),
        "opening": opened,
        "opening, splits drawn": lambda: opened(root / "train"),
        "a run's three of them": lambda: three.open_splits(channels=3),
        "opening a slice": lambda: opened(split="train[:98%]"),
        "pickling": lambda: pickle.dumps(source),
        "unpickling": lambda: pickle.loads(pickled),  # noqa: S301
    }
    for name in ("opening, splits drawn", "a run's three of them", "opening a slice"):
        try:
            actions[name]()
        # An older version, measured for comparison, has no such thing.
        except UserError:
            del actions[name]
    found = measure(actions, rounds)
    for name, seconds in found.items():
        times = f"{seconds / found['bare walk']:6.2f} × the walk"
        print(f"{name:<22} {1000 * seconds:9.1f} ms  {times}")
    for name, size in {"pickled": len(pickled), "in memory": memory}.items():
        print(f"{name:<22} {size / 1e6:9.1f} MB  {size / len(source):6.0f} bytes a file")


def main(arguments: list[str]) -> None:
    """Measures what the flags ask for."""
    FLAGS(arguments)
    with tempfile.TemporaryDirectory(dir=FLAGS.directory) as folder:
        make(Path(folder), FLAGS.files, FLAGS.classes)
        print(f"{FLAGS.files:,} files in {FLAGS.classes:,} folders")
        run(Path(folder), FLAGS.rounds)


if __name__ == "__main__":
    main(sys.argv)
