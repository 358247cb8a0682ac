"""How long a ridge probe on patches' tokens takes, and how much memory.

  python benchmarks/dense_probe.py [--tokens=100000] [--width=768] [--classes=150] [--images=100]

Draws tokens in float32 image by image, none of which is kept, with class shares that depend on
them; counts a tenth of the images as held out; fits with six penalties; and predicts all tokens.
Prints wall-clock and CPU seconds of each, and the most memory that NumPy had at once.
"""

import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

# The code beside it, wherever it is run from.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from absl import flags

from distill.analysis.dense_probe import Moments, fit_dense_probe

FLAGS = flags.FlagValues()
flags.DEFINE_integer("tokens", 100_000, "Of all images.", 1, flag_values=FLAGS)
flags.DEFINE_integer("width", 768, "Features of a token.", 1, flag_values=FLAGS)
flags.DEFINE_integer("classes", 150, "Whose shares are predicted.", 2, flag_values=FLAGS)
flags.DEFINE_integer("images", 100, "That the tokens are of.", 2, flag_values=FLAGS)


class Stopwatch:
    """Adds up the time of one kind of work."""

    def __init__(self):
        self.wall = self.cpu = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter() - self._began[0]
        self.cpu += time.process_time() - self._began[1]


def images(count: int, tokens: int, width: int, classes: int) -> Iterator[tuple]:
    """Tokens [n, width] and shares [n, classes] of each image, float32, always the same."""
    kernel = np.random.default_rng(0).standard_normal((width, classes), np.float32)
    for number in range(count):
        rng = np.random.default_rng(number + 1)
        n = tokens * (number + 1) // count - tokens * number // count
        x = rng.standard_normal((n, width), np.float32)
        noisy = x @ kernel + np.float32(width**0.5) * rng.standard_normal((n, classes), np.float32)
        yield x, np.eye(classes, dtype=np.float32)[noisy.argmax(axis=1)]


def main(arguments: list[str]) -> None:
    """Measures what the flags ask for."""
    FLAGS(arguments)
    sizes = FLAGS.images, FLAGS.tokens, FLAGS.width, FLAGS.classes
    watches = {name: Stopwatch() for name in ("moments", "fit", "predictions")}
    parts = [Moments.none(FLAGS.width, FLAGS.classes) for _ in range(2)]
    tracemalloc.start()
    for number, (tokens, shares) in enumerate(images(*sizes)):
        with watches["moments"]:
            parts[number % 10 == 0] += Moments.of(tokens, shares)
    with watches["fit"]:
        probe = fit_dense_probe(parts[0], parts[1])
    correct = 0
    for tokens, shares in images(*sizes):
        with watches["predictions"]:
            found = probe.classifier.scores(tokens).argmax(axis=1)
        correct += np.count_nonzero(found == shares.argmax(axis=1))
    _, most = tracemalloc.get_traced_memory()
    print(f"{'':<14}{'seconds':>9}{'of CPU':>9}")
    for name, watch in watches.items():
        print(f"{name:<14}{watch.wall:9.1f}{watch.cpu:9.1f}")
    print(
        f"{'all':<14}{sum(w.wall for w in watches.values()):9.1f}"
        f"{sum(w.cpu for w in watches.values()):9.1f}"
    )
    print(f"at most {most / 2**20:,.0f} MiB; l2 {probe.l2:g}; {correct / FLAGS.tokens:.3f} correct")


if __name__ == "__main__":
    main(sys.argv)
