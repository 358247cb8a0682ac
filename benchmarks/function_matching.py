"""Five ways to teach the same student, each for three durations, from few images.

  python benchmarks/function_matching.py [--workdir=runs/function_matching] [--figure=FILE.png]

The central study of "A good teacher is patient and consistent" (arXiv 2106.05237, §3), on digits:
the demo's teacher, trained on all training images, teaches students that see few of them. Only what
the teacher sees and whether images are mixed differs between the ways; optimiser, schedule, crops
and seeds are the same, for labels alone too. Measured on the 600 validation and test images. Run
again after it was stopped, it goes on where it stood.
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
from distill.evaluate.features import split_loader
from distill.matching.distillation import distillation_metrics
from distill.nn import Params
from distill.parallel import MeshConfig, make_mesh
from distill.report.text import text_table
from distill.train.fit import Trained
from distill.train.workdir import Workdir
from pipelines import distill_student, pretrain
from pipelines.distill_student import DistillConfig
from pipelines.models import ModelConfig
from pipelines.pretrain import PretrainConfig
from pipelines.teacher_models import TEACHER, TeacherConfig, load_teachers

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
LABELS = "labels alone"
# What of config.matching makes each way; labels alone have no teacher.
WAYS = {
    LABELS: {},
    "fixed teacher": {"teacher_view": "fixed", "mixup": "0"},
    "independent noise": {"teacher_view": "independent", "mixup": "0"},
    "consistent": {"teacher_view": "same", "mixup": "0"},
    "function matching": {"teacher_view": "same", "mixup": "1"},
}
TIMES_LONGER = (1, 4, 16)
BATCH = 32
# What is measured, how it is shown and as which share of it.
MEASURES = {
    "accuracy": ("accuracy, %", 100),
    "agreement": ("agreement with the teacher, %", 100),
    "kl": ("KL to the teacher, nats × 100", 100),
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
        # Best for labels alone and for function matching alike, on a seed that is not in the study,
        # of rates from 1e-3 to 1e-2 and decays from 1e-4 to 3e-3.
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
    if way == LABELS:
        del tree["teacher"], tree["matching"]
        return configs.resolve(PretrainConfig, tree, overrides | {"loss.kind": "softmax"})
    matching = {f"matching.{key}": value for key, value in WAYS[way].items()}
    overrides |= matching | {"teacher.workdir": str(teacher)}
    return configs.resolve(DistillConfig, tree, overrides)


def train(config: PretrainConfig | DistillConfig, workdir: Path) -> Trained:
    """Runs to the end, or goes on with a run that was stopped."""
    pipeline = pretrain if isinstance(config, PretrainConfig) else distill_student
    return pipeline.run(config, Workdir(workdir), workdir.name, overview=False)


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
        """The `MEASURES` of one model, over all images."""
        found = {}
        for evaluator in self._evaluators:
            found |= evaluator(params, self._teacher_params)
        return [
            float(np.average([found[f"{s}/{name}"] for s in SPLITS], weights=self._sizes))
            for name in MEASURES
        ]


def draw(found: np.ndarray, durations: Sequence[int], file: Path) -> None:
    """Accuracy and KL against duration, a line for each way."""
    drawing = Figure(figsize=(10, 4), layout="constrained")
    shown = [place for place, name in enumerate(MEASURES) if name != "agreement"]
    for axes, place in zip(drawing.subplots(1, 2), shown, strict=True):
        label, factor = list(MEASURES.values())[place]
        for way, values in zip(WAYS, factor * found[..., place], strict=True):
            axes.errorbar(
                durations,
                values.mean(axis=1),
                values.std(axis=1, ddof=1),
                label=way,
                marker="o",
                capsize=3,
            )
        axes.set_xscale("log")
        axes.set_xticks(durations, [f"{steps:,}" for steps in durations], minor=False)
        axes.minorticks_off()
        axes.set_xlabel("steps")
        axes.set_title(label)
        axes.grid(alpha=0.3)
    axes.set_yscale("log")
    axes.legend()
    drawing.savefig(file, dpi=110)


def main() -> None:
    """Trains the teacher and all students, prints the tables and draws the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, default=Path("runs/function_matching"))
    parser.add_argument("--figure", type=Path, help="default: WORKDIR/function_matching.png")
    parser.add_argument("--images", type=int, default=200, help="that students see")
    parser.add_argument("--steps", type=int, default=400, help="of the shortest runs")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each way and duration")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error(f"--seeds must be 2 or more for a spread, not {arguments.seeds}")
    root, teacher = arguments.workdir, arguments.workdir / "teacher"
    # Compiling takes as long as a short run, and students have much of it in common.
    jax.config.update("jax_compilation_cache_dir", str(root.absolute() / "compiled"))

    lesson = teacher_config()
    taught = train(lesson, teacher)
    durations = [times * arguments.steps for times in TIMES_LONGER]
    runs = {
        (way, steps, seed): config_of(way, teacher, arguments.images, steps, seed)
        for seed, steps, way in itertools.product(range(arguments.seeds), durations, WAYS)
    }
    data, model = lesson.data, next(iter(runs.values())).model
    teacher_scores = HeldOut(lesson.model, data, teacher).measure(taught.params)
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
    for place, (label, factor) in enumerate(MEASURES.values()):
        rows = [
            (way, *(f"{seeds.mean():.2f} ± {seeds.std(ddof=1):.2f}" for seeds in line))
            for way, line in zip(WAYS, factor * found[..., place], strict=True)
        ]
        print(f"\n{label} (the teacher: {factor * teacher_scores[place]:.2f})")
        print(text_table(header, rows))
    print(f"\nmean ± standard deviation of {arguments.seeds} seeds, {arguments.images} images")
    figure = arguments.figure or root / "function_matching.png"
    draw(found, durations, figure)
    print(f"figure: {figure}")


if __name__ == "__main__":
    main()
