"""What distillation costs beside its parts: the teacher's forward pass and the student's step.

  python benchmarks/distillation_step.py [--rounds=15] [--json=FILE]

Times, in turns, on digits-sized random images and models of the digits configs:

- the teacher's forward pass and the student's step on labels, alone, and the step of function
  matching that does both, live and with stored targets;
- two students in one step, each alone, with a teacher that costs ten times what a student does.

Figures are ratios of medians, each of as many rounds; all steps are those that training compiles.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

# The code beside this file is what is measured, whether or not a copy of it is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax
import numpy as np

from benchmarks.arguments import file_to_write
from distill.data.examples import STORED
from distill.nn import Params, VisionNetwork
from distill.optim import OptimizerConfig, ScheduleConfig, make_optimizer, make_schedule
from distill.parallel import MeshConfig, make_mesh, put_batch
from distill.subject import Teacher
from distill.tasks.matching.config import LossWeights, MatchingConfig
from distill.tasks.matching.function_matching import FunctionMatching
from distill.tasks.matching.targets import TargetFormat, encode
from distill.terminal import accept_any_text, text_table
from distill.train.state import init_params, init_state
from distill.train.step import Learner, compile_joint_step, prepare
from students import vit
from teachers import vit_22b

SIDE, BATCH, CLASSES, SEED, RATE = 8, 64, 10, 0, 1e-3
# A round is as many calls as take about this long, so that one late interrupt is not the figure.
ROUND_SECONDS = 0.25
COMMON = dict(image_size=SIDE, channels=1, num_classes=CLASSES, unroll=True)
STUDENT = dict(width=64, depth=2, mlp_dim=256, heads=4, head="gap")
TEACHER = dict(width=128, depth=2, mlp_dim=512, heads=4)
# Ten times a student's step, or somewhat more; the table has the ratio that was measured.
LARGE_TEACHER = dict(width=256, depth=14, mlp_dim=1024, heads=4)

Timed = dict[str, Callable[[], object]]


class Bench:
    """Batches and compiled steps for a teacher."""

    def __init__(self, teacher: VisionNetwork):
        self.mesh = make_mesh(MeshConfig())
        self.teacher = teacher.placed(self.mesh)
        self.params = {"teacher": init_params(self.teacher, SEED)}
        rng = np.random.default_rng(SEED)
        images = rng.integers(0, 256, (BATCH, SIDE, SIDE, 1), np.uint8)
        labels = rng.integers(0, CLASSES, BATCH).astype(np.int32)
        self.batch = put_batch(self.mesh, {"image": images, "label": labels}, size=BATCH)

    def student(self, seed: int) -> tuple[VisionNetwork, Params]:
        """A student and where it starts."""
        network = vit.build(vit.configure("mu/2", **COMMON | STUDENT)).placed(self.mesh)
        return network, init_params(network, seed)

    def teach(self) -> Callable[[], object]:
        """The teacher's forward pass."""
        forward = jax.jit(
            lambda params, batch: (
                self.teacher.apply(params, self.teacher.prepare(batch["image"])).logits
            )
        )
        return lambda: forward(self.params["teacher"], self.batch)

    def step(self, *seeds: int, targets: str = "live") -> Callable[[], object]:
        """A step of as many students as seeds.

        Args:
          seeds: of the students.
          targets: `live` asks the teacher, `stored` reads the batch, `labels` has no teacher.
        """
        teachers = {"teacher": Teacher(self.teacher)}
        frozen, batch, config = self.params, self.batch, MatchingConfig()
        if targets == "labels":
            losses = LossWeights(kl=0.0, labels=1.0)
            teachers, frozen, config = {}, {}, MatchingConfig(losses=losses)
        if targets == "stored":
            frozen, batch = {}, batch | self._stored()
        learners, states = {}, {}
        for seed in seeds:
            network, params = self.student(seed)
            optimizer = make_optimizer(
                OptimizerConfig(name="adafactor", learning_rate=RATE),
                make_schedule(ScheduleConfig(kind="constant", warmup_steps=0), total_steps=1),
                network.abstract_params,
                network.axes,
            )
            task = FunctionMatching(
                network, teachers, config, stored=STORED if targets == "stored" else None
            )
            learners[str(seed)] = Learner(task, optimizer)
            states[str(seed)] = init_state(network, optimizer, seed, params=params)
        compiled = compile_joint_step(learners, SEED, states, frozen, batch)

        def step():
            nonlocal states
            states, metrics = compiled(states, frozen, batch)
            return metrics

        return step

    def _stored(self) -> dict[str, jax.Array]:
        network, _ = self.student(0)
        task = FunctionMatching(network, {"teacher": Teacher(self.teacher)}, MatchingConfig())
        prepared = prepare(task, SEED, 0, self.params, self.batch)
        arrays = encode(prepared.teachers, TargetFormat())
        return {STORED + name: array for name, array in arrays.items()}


def measure(timed: Timed, rounds: int) -> dict[str, float]:
    """Median milliseconds per call of each, in rounds that take turns."""
    calls = {}
    for name, call in timed.items():
        for _ in range(3):
            jax.block_until_ready(call())
        calls[name] = max(1, round(ROUND_SECONDS / _seconds(call, 5)))
    found = {name: [] for name in timed}
    for _ in range(rounds):
        for name, call in timed.items():
            found[name].append(_seconds(call, calls[name]))
    return {name: 1e3 * statistics.median(values) for name, values in found.items()}


def _seconds(call: Callable[[], object], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        # The step that is awaited is the next one's input, so nothing overlaps.
        jax.block_until_ready(call())
    return (time.perf_counter() - began) / times


def main() -> None:
    """Measures and prints both comparisons."""
    accept_any_text()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=file_to_write, help="where to write the figures")
    arguments = parser.parse_args()

    bench = Bench(vit_22b.build(vit_22b.configure("22B/2", **COMMON | TEACHER)))
    parts = measure(
        {
            "teacher's forward pass": bench.teach(),
            "student's step on labels": bench.step(0, targets="labels"),
            "function matching": bench.step(0),
            "function matching, stored targets": bench.step(0, targets="stored"),
        },
        arguments.rounds,
    )
    teacher, student, live, stored = parts.values()
    ratios = {
        "live / (teacher + student)": live / (teacher + student),
        "stored / student": stored / student,
    }
    large = Bench(vit_22b.build(vit_22b.configure("22B/2", **COMMON | LARGE_TEACHER)))
    pair = measure(
        {
            "large teacher's forward pass": large.teach(),
            "first student alone": large.step(0),
            "second student alone": large.step(1),
            "both in one step": large.step(0, 1),
        },
        arguments.rounds,
    )
    forward, first, second, both = pair.values()
    ratios |= {
        "large teacher / student": forward / student,
        "both / (first + second)": both / (first + second),
    }
    times = parts | pair
    device = jax.devices()[0].device_kind
    print(f"{device}, batch {BATCH} of {SIDE}×{SIDE}, medians of {arguments.rounds} rounds\n")
    print(text_table(("", "ms"), [(name, f"{value:.2f}") for name, value in times.items()]))
    print()
    print(text_table(("", "ratio"), [(name, f"{value:.3f}") for name, value in ratios.items()]))
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"ms": times, "ratios": ratios}, indent=2) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
