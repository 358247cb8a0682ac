"""Six ways to teach the same student, each for three durations, from few images.

  python benchmarks/function_matching.py [--workdir=runs/function_matching] [--figure=FILE.png]

The central study of "A good teacher is patient and consistent" (arXiv 2106.05237, §3), on digits:
the demo's teacher, trained on all training images, teaches students that see few of them. The ways
differ in what the teacher sees, in whether images are mixed, and in whether there is a teacher at
all; optimiser, schedule, crops and seeds are the same. Measured on the 600 validation and test
images. Run again after it was stopped, it goes on where it stood.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

# The code beside this file is what is measured, whether or not a copy of it is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from matplotlib.figure import Figure

from distill import config as configs
from distill.data import DataConfig
from distill.evaluate import Evaluator
from distill.evaluate.distillation import distillation_metrics
from distill.evaluate.features import split_loader
from distill.nn import Params
from distill.nn.family import ModelConfig
from distill.parallel import MeshConfig, make_mesh
from distill.paths import path_argument
from distill.runs.distillation import DistillConfig
from distill.runs.teachers import TEACHER, TeacherConfig, load_teachers
from distill.terminal import accept_any_text, text_table
from distill.train.trainee import Trained
from distill.train.workdir import Workdir
from pipelines import distill_student, pretrain
from pipelines.pretrain import PretrainConfig

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
# The study's five ways and, as function matching has mixup, mixup without a teacher.
WAYS = {
    "labels alone": {"loss.mixup": "0"},
    "labels and mixup": {"loss.mixup": "1"},
    "fixed teacher": {"matching.teacher_view": "fixed", "matching.mixup": "0"},
    "independent noise": {"matching.teacher_view": "independent", "matching.mixup": "0"},
    "consistent": {"matching.teacher_view": "same", "matching.mixup": "0"},
    "function matching": {"matching.teacher_view": "same", "matching.mixup": "1"},
}
ON_LABELS = ("labels alone", "labels and mixup")
TIMES_LONGER = (1, 4, 16)
BATCH = 32
# What is measured, and what a hundred times that is called.
MEASURES = {
    "accuracy": "accuracy, %",
    "agreement": "agreement with the teacher, %",
    "kl": "KL to the teacher, nats × 100",
}
SPLITS = ("validation", "test")


def teacher_config() -> PretrainConfig:
    """The demo's teacher."""
    tree = configs.load_file(str(CONFIGS / "pretrain" / "digits.py"))
    return configs.resolve(PretrainConfig, tree)


def config_of(
    way: str, teacher: Path, images: int, steps: int, seed: int
) -> PretrainConfig | DistillConfig:
    """One student's training; `teacher` is the workdir of its teacher's."""
    tree = configs.load_file(str(CONFIGS / "distill" / "digits.py")) | {"seed": seed}
    overrides = {
        "model.width": "32",
        "model.mlp_dim": "128",
        "model.unroll": "false",  # compiles faster, and most runs are short
        "data.train_images": str(images),
        # Students are measured when all are there, by the same program.
        "data.validation_split": "none",
        "data.test_split": "none",
        # On a seed that is not in the study, none of a few pairs with rates from 1e-3 to 1e-2 and
        # decays from 1e-4 to 3e-3 was more accurate, for labels alone or for function matching.
        "optimizer.learning_rate": "3e-3",
        "optimizer.weight_decay": str((("kernel$", 1e-3),)),
        "schedule.warmup_steps": "none",
        "schedule.warmup_percent": "5",
        "train.batch_size": str(BATCH),
        "train.total_steps": str(steps),
        "train.eval_every": str(steps),
        "train.checkpoint_every": str(steps),
        "train.log_every": str(steps),
    }
    overrides |= WAYS[way]
    if way in ON_LABELS:
        del tree["teacher"], tree["matching"]
        return configs.resolve(PretrainConfig, tree, overrides | {"loss.kind": "softmax"})
    return configs.resolve(DistillConfig, tree, overrides | {"teacher.workdir": str(teacher)})


def train(config: PretrainConfig | DistillConfig, workdir: Path) -> Trained:
    """Runs to the end, or goes on with a run that was stopped."""
    if isinstance(config, PretrainConfig):
        return pretrain.run(config, Workdir(workdir), workdir.name, overview=False)
    return distill_student.run(config, Workdir(workdir), workdir.name, overview=False)


class HeldOut:
    """Compares models of one shape with labels and with the teacher, on validation and test images.

    Args:
      model: their shape.
      data: whose images.
      teacher: the workdir of the teacher.
    """

    def __init__(self, model: ModelConfig, data: DataConfig, teacher: Path):
        mesh = make_mesh(MeshConfig())
        named = {TEACHER: TeacherConfig(workdir=str(teacher))}
        teachers, self._teacher_params = load_teachers(named, mesh)
        per_example = distillation_metrics(model.network().placed(mesh), teachers)
        images = {s: data.open_evaluation(s, channels=model.channels) for s in SPLITS}
        self._evaluators = [
            Evaluator(
                split,
                split_loader(source, data, mesh, size=model.image_size, batch_size=BATCH),
                per_example,
            )
            for split, source in images.items()
        ]
        self._sizes = [len(source) for source in images.values()]

    def measure(self, params: Params) -> list[float]:
        """A hundred times the `MEASURES` of one model, over all images."""
        found = {}
        for evaluator in self._evaluators:
            found |= evaluator(params, self._teacher_params)
        return [
            100 * float(np.average([found[f"{s}/{name}"] for s in SPLITS], weights=self._sizes))
            for name in MEASURES
        ]


def draw(found: np.ndarray, teacher_error: float, durations: Sequence[int], file: Path) -> None:
    """Error and KL against duration, a line for each way."""
    panels = {
        "error, %": 100 - found[..., list(MEASURES).index("accuracy")],
        MEASURES["kl"]: found[..., list(MEASURES).index("kl")],
    }
    drawing = Figure(figsize=(10, 4), layout="constrained")
    left, right = drawing.subplots(1, 2)
    for axes, (title, values) in zip((left, right), panels.items(), strict=True):
        for way, line in zip(WAYS, values, strict=True):
            mean, spread = line.mean(axis=1), line.std(axis=1, ddof=1)
            axes.errorbar(durations, mean, spread, label=way, marker="o", capsize=3)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(durations, [f"{steps:,}" for steps in durations])
        axes.set_yticks(ticks := (1, 2, 5, 10, 20, 50), map(str, ticks))
        axes.minorticks_off()
        axes.set_xlabel("steps")
        axes.set_title(title)
        axes.grid(alpha=0.3)
    left.axhline(teacher_error, color="black", linestyle=":", label="the teacher")
    left.legend()
    drawing.savefig(file, dpi=110)


def main() -> None:
    """Trains the teacher and all students, prints the tables and draws the figure."""
    accept_any_text()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=path_argument, default="runs/function_matching")
    parser.add_argument(
        "--figure", type=path_argument, help="default: WORKDIR/function_matching.png"
    )
    parser.add_argument("--images", type=int, default=200, help="that students see")
    parser.add_argument("--steps", type=int, default=400, help="of the shortest runs")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each way and duration")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error(f"--seeds must be 2 or more for a spread, not {arguments.seeds}")
    root, teacher = arguments.workdir, arguments.workdir / "teacher"
    # Compiling takes as long as a short run, and students have much of it in common.
    jax.config.update("jax_compilation_cache_dir", str(root / "compiled"))

    lesson = teacher_config()
    taught = train(lesson, teacher)
    durations = [times * arguments.steps for times in TIMES_LONGER]
    runs = {
        (way, steps, seed): config_of(way, teacher, arguments.images, steps, seed)
        for seed, steps, way in itertools.product(range(arguments.seeds), durations, WAYS)
    }
    data, model = lesson.data, next(iter(runs.values())).model
    teacher_accuracy = HeldOut(lesson.model, data, teacher).measure(taught.params)[0]
    assert model is not None
    held_out = HeldOut(model, data, teacher)
    found = np.empty((len(WAYS), len(durations), arguments.seeds, len(MEASURES)))
    for (way, steps, seed), config in runs.items():
        name = f"{way.replace(' ', '_')}_steps_{steps}_seed_{seed}"
        scores = held_out.measure(train(config, root / name).params)
        found[list(WAYS).index(way), durations.index(steps), seed] = scores

    epochs = [steps * BATCH / arguments.images for steps in durations]
    header = (
        "",
        *(f"{s:,} steps ({e:,.0f} epochs)" for s, e in zip(durations, epochs, strict=True)),
    )
    for place, label in enumerate(MEASURES.values()):
        rows = [
            (way, *(f"{seeds.mean():.2f} ± {seeds.std(ddof=1):.2f}" for seeds in line))
            for way, line in zip(WAYS, found[..., place], strict=True)
        ]
        print(f"\n{label}\n{text_table(header, rows)}")
    print(
        f"\nmean ± standard deviation of {arguments.seeds} seeds, {arguments.images} images; "
        f"the teacher's accuracy: {teacher_accuracy:.2f}%"
    )
    figure = arguments.figure or root / "function_matching.png"
    draw(found, 100 - teacher_accuracy, durations, figure)
    print(f"figure: {figure}")


if __name__ == "__main__":
    main()
