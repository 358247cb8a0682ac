"""What comes of single flipped bits in the files of a checkpoint.

  python benchmarks/bit_flips.py [--flips=600] [--seed=0]

Saves the state of a small network as a run does, and its best weights. Then flips one bit of one of
their files, the file and the bit drawn at random, reads the checkpoint as a run that is resumed
does, or the best weights, and flips the bit back. Of each flip, what was read is `refused` (with a
message, not a traceback), the `same`, or `another`, which is what must not be.
"""

import contextlib
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# The code beside it, wherever it is run from.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax
import numpy as np
import optax
from absl import flags, logging

from distill.errors import Damaged
from distill.parallel import MeshConfig, make_mesh
from distill.terminal import text_table
from distill.train.best import Best
from distill.train.checkpoints import Checkpoints
from distill.train.state import TrainState, abstract_state, init_state
from students import vit

FLAGS = flags.FlagValues()
flags.DEFINE_integer("flips", 600, "Bits to flip, one at a time.", 1, flag_values=FLAGS)
flags.DEFINE_integer("seed", 0, "Of what is drawn.", flag_values=FLAGS)

STEP = 0
PROGRESS = {"next_example": 12, "skipped": 1, "training_seconds": 3.5, "seconds": 4.25}


def small_state() -> tuple[TrainState, TrainState]:
    """The state of a small network, and its shapes, as it is restored."""
    shape = dict(width=16, depth=1, mlp_dim=32, heads=2, image_size=8, num_classes=10)
    network = vit.build(vit.configure("S/4", **shape)).placed(make_mesh(MeshConfig()))
    optimizer = optax.adam(1e-3)
    return init_state(network, optimizer, 0), abstract_state(network, optimizer)


def save(workdir: Path, state: TrainState) -> None:
    """Saves a checkpoint, and the same weights as the best."""
    with contextlib.closing(Checkpoints(workdir)) as checkpoints:
        checkpoints.save(state, PROGRESS)
    with contextlib.closing(Best(workdir, "val/accuracy")) as best:
        best.offer(STEP, 0.75, state.params)


def read(workdir: Path, abstract: TrainState) -> list[np.ndarray]:
    """All that a run reads when it is resumed, and its best weights."""
    with contextlib.closing(Best(workdir, "val/accuracy")) as best:
        found: list[Any] = [best.step, best.value]
    with contextlib.closing(Checkpoints(workdir, read_only=True)) as checkpoints:
        found += jax.tree.leaves(checkpoints.restore(abstract, STEP))
    with contextlib.closing(Checkpoints(workdir, read_only=True, folder="best")) as best:
        found += jax.tree.leaves(best.restore_params(abstract.params, STEP))
    return [np.asarray(leaf) for leaf in found]


def files_below(directory: Path) -> list[Path]:
    """Files with something in them, sorted."""
    return sorted(one for one in directory.rglob("*") if one.is_file() and one.stat().st_size)


@contextlib.contextmanager
def flipped(file: Path, bit: int) -> Iterator[None]:
    """A file with one bit flipped, until the context ends."""
    content = file.read_bytes()
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << (bit % 8)
    file.write_bytes(changed)
    try:
        yield
    finally:
        file.write_bytes(content)


def outcome(read: Callable[[], list[np.ndarray]], expected: list[np.ndarray]) -> str:
    """What comes of reading: `refused`, the `same`, or `another`; a traceback is raised."""
    try:
        found = read()
    except Damaged:
        return "refused"
    same = len(found) == len(expected) and all(map(np.array_equal, found, expected))
    return "same" if same else "another"


def count(workdir: Path, abstract: TrainState, flips: int, seed: int) -> Counter[tuple[str, str]]:
    """How often what came of a flip in which kind of file."""
    files, draw = files_below(workdir), random.Random(seed)
    expected = read(workdir, abstract)
    found: Counter[tuple[str, str]] = Counter()
    for _ in range(flips):
        file = draw.choice(files)
        with flipped(file, draw.randrange(8 * file.stat().st_size)):
            came = outcome(lambda: read(workdir, abstract), expected)
        found[kind_of(file.relative_to(workdir)), came] += 1
    return found


def kind_of(name: Path) -> str:
    """A file's name without what is drawn at random or a number."""
    parts = ["*" if len(part) == 32 or part.isdecimal() else part for part in name.parts]
    return "/".join(parts)


def main(arguments: list[str]) -> None:
    """Flips bits as the flags ask for, and prints a line for each kind of file."""
    FLAGS(arguments)
    # Orbax's, of every directory that is only read.
    logging.set_verbosity(logging.ERROR)
    state, abstract = small_state()
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder)
        save(workdir, state)
        found = count(workdir, abstract, FLAGS.flips, FLAGS.seed)
    columns = ("refused", "same", "another")
    rows = [(kind, *(str(found[kind, c]) for c in columns)) for kind, _ in sorted(found)]
    total = [str(sum(n for (_, came), n in found.items() if came == c)) for c in columns]
    print(text_table(("file", *columns), [*dict.fromkeys(rows), ("all", *total)]))


if __name__ == "__main__":
    main(sys.argv)
