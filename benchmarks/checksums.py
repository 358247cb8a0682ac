"""What the checksums of a checkpoint cost.

  python benchmarks/checksums.py [--model=demo] [--rounds=5] [--folder=/tmp]

Saves the first state of a run and reads it back, with checksums and without, in turns. `demo` is
the teacher of `distill demo`, `large` a ViT-L/16 of 304 million parameters, both with the state of
Adafactor as this project has it. Prints the median of wall-clock and of CPU seconds, and the ratio
of these medians: of saving until it is on disk, which a run does in the background, and of reading.
What was just written is read from memory, not from a disk, so that reading twice shows.
"""

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from unittest import mock

# The code beside it, wherever it is run from.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax
import jax.numpy as jnp
from absl import flags, logging

from distill.nn import VisionNetwork
from distill.optim import OptimizerConfig, make_optimizer
from distill.parallel import MeshConfig, make_mesh
from distill.terminal import text_table
from distill.train.checkpoints import Checkpoints
from distill.train.state import TrainState, abstract_state, init_state
from students import vit
from teachers import vit_22b

FLAGS = flags.FlagValues()
flags.DEFINE_enum("model", "demo", ["demo", "large"], "Whose state.", flag_values=FLAGS)
flags.DEFINE_integer("rounds", 5, "Of each way.", 1, flag_values=FLAGS)
flags.DEFINE_string("folder", None, "Where to save; None takes /tmp.", flag_values=FLAGS)

PROGRESS = {"next_example": 12, "skipped": 1, "training_seconds": 3.5, "seconds": 4.25}

Times = tuple[float, float]
"""Wall-clock and CPU seconds."""


def network(model: str) -> VisionNetwork:
    """The network, placed on this machine's devices."""
    if model == "large":
        found = vit.build(vit.configure("L/16", image_size=224, num_classes=1000))
    else:
        shape = dict(width=128, depth=2, mlp_dim=512, heads=4, image_size=8, channels=1)
        found = vit_22b.build(vit_22b.configure("22B/2", num_classes=10, **shape))
    return found.placed(make_mesh(MeshConfig()))


def first_state(network: VisionNetwork) -> tuple[TrainState, TrainState]:
    """The first state, and its shapes."""
    optimizer = make_optimizer(
        OptimizerConfig(), lambda step: jnp.float32(1), network.abstract_params, network.axes
    )
    return init_state(network, optimizer, 0), abstract_state(network, optimizer)


@contextlib.contextmanager
def without_checksums() -> Iterator[None]:
    """Saves and reads as earlier versions did."""
    with (
        mock.patch("distill.train.checked_items._finish", lambda directory: None),
        mock.patch("distill.train.checkpoints.check_sound", lambda *_: True),
    ):
        yield


def timed(work: Callable[[], object]) -> Times:
    """Wall-clock and CPU seconds of work."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def once(folder: Path, states: list[TrainState], abstract: TrainState) -> list[Times]:
    """The times of saving and of reading a state.

    Args:
      folder: in which it is saved.
      states: one, in whose place comes what was read: there are never two in memory.
      abstract: its shapes.
    """
    with contextlib.closing(Checkpoints(folder)) as checkpoints:

        def save():
            checkpoints.save(states.pop(), PROGRESS)
            checkpoints.wait()

        def read():
            states.append(jax.block_until_ready(checkpoints.restore(abstract, 0)[0]))

        times = [timed(save), timed(read)]
    shutil.rmtree(folder / "checkpoints")
    return times


def main(arguments: list[str]) -> None:
    """Measures what the flags ask for."""
    FLAGS(arguments)
    # Orbax says that directories are read-only.
    logging.set_verbosity(logging.ERROR)
    state, abstract = first_state(network(FLAGS.model))
    states = [jax.block_until_ready(state)]
    del state
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(states))
    print(f"{FLAGS.model}: a state of {size / 1e6:,.1f} MB", flush=True)
    found: dict[bool, list[list[Times]]] = {True: [], False: []}
    with tempfile.TemporaryDirectory(dir=FLAGS.folder) as folder:
        # The first of each way is not counted.
        for number in range(FLAGS.rounds + 1):
            for checked in (True, False) if number % 2 else (False, True):
                with contextlib.nullcontext() if checked else without_checksums():
                    times = once(Path(folder), states, abstract)
                if number:
                    found[checked].append(times)
    rows = []
    for place, what in enumerate(("save", "read")):
        for clock, name in enumerate(("wall", "CPU")):
            with_, without = (
                median(times[place][clock] for times in found[checked]) for checked in (True, False)
            )
            ratio = f"{with_ / without:.3f}"
            rows.append((what, name, f"{with_:.3f}", f"{without:.3f}", ratio))
    print(text_table(("", "clock", "s with", "s without", "ratio"), rows))


if __name__ == "__main__":
    main(sys.argv)
