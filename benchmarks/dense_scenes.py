"""What does a student keep of its teacher's tokens, by what it was distilled with?

  python benchmarks/dense_scenes.py [--workdir=runs/dense_scenes] [--seeds=3]

configs/pretrain/textured_scenes.py, configs/distill/textured_scenes.py and
configs/evaluate/textured_scenes.py with several seeds: a teacher; students of one shape by its
logits and tokens, by its logits alone and by labels; and that shape and the teacher's as they are
drawn. For each seed there is a page with masks, layers and tokens side by side. Run again after
it was stopped, it goes on where it stood.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

# The code beside this file is what is measured, whether or not a copy of it is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from distill import config as configs
from distill.paths import path_argument
from distill.report.compared import write_comparison
from distill.runs.compared import compare
from distill.runs.distillation import DistillConfig
from distill.runs.evaluated import EvaluateConfig
from distill.runs.pretraining import PretrainConfig
from distill.terminal import accept_any_text, text_table
from distill.train.workdir import Workdir
from pipelines import distill_student, pretrain

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
# A step at this rate leaves every parameter as it was drawn.
_AS_DRAWN = {"train.total_steps": 1, "schedule.warmup_steps": 0, "optimizer.learning_rate": 1e-30}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "teacher": ("pretrain", "teacher", {}),
    "logits_and_tokens": ("distill", "tokens", {}),
    "logits_alone": ("distill", "logits", {}),
    "labels": ("pretrain", "small", {}),
    "teacher_as_drawn": ("pretrain", "teacher", _AS_DRAWN),
    "student_as_drawn": ("pretrain", "small", _AS_DRAWN),
}
"""By name: a command, the argument of its config, and what is said otherwise."""

FIGURES = {
    "masks/mean_iou": "mean IoU",
    "whole/mean_iou": "whole images",
    "layers/delta@1.1": "layers, δ 1.1",
    "motion/accuracy": "motion",
    "motion/mean_over_time/accuracy": "mean over time",
}


def train(name: str, seed: int, directory: Path) -> Path:
    """Trains one of `MODELS`, or goes on with it; returns its workdir."""
    command, argument, otherwise = MODELS[name]
    said = {"seed": seed, **otherwise}
    if command == "distill":
        said["teacher.workdir"] = directory / "teacher"
    tree = configs.load_file(f"{CONFIGS / command / 'textured_scenes.py'}:{argument}")
    schema = DistillConfig if command == "distill" else PretrainConfig
    config: Any = configs.resolve(schema, tree, {key: str(value) for key, value in said.items()})
    run = distill_student.run if command == "distill" else pretrain.run
    run(config, Workdir(directory / name), name, overview=False)
    return directory / name


def measured(directory: Path, names: list[str]) -> dict[str, dict[str, float]]:
    """The figures of each model, by its name; writes the page."""
    tree = configs.load_file(str(CONFIGS / "evaluate" / "textured_scenes.py"))
    evals = configs.resolve(EvaluateConfig, tree, {}).evals
    result = compare({name: directory / name for name in names}, evals, directory / "compared")
    print(write_comparison(result, directory / "compared"), flush=True)
    return {
        one["name"]: {
            name: line["metrics"][name]
            for line in one["evaluations"].values()
            for name in FIGURES
            if name in line["metrics"]
        }
        for one in result["models"]
    }


def table(found: list[dict[str, dict[str, float]]]) -> str:
    """A row for each model: each figure's mean over seeds, and its lowest and highest."""
    rows = []
    for model in MODELS:
        cells = []
        for figure in FIGURES:
            values = [one[model][figure] for one in found]
            ends = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.3f}{ends}")
        rows.append((model.replace("_", " "), *cells))
    return text_table(("model", *FIGURES.values()), rows)


def main() -> None:
    """Runs what the arguments ask for."""
    accept_any_text()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workdir", type=path_argument, default=Path("runs/dense_scenes"))
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    found = []
    for seed in range(arguments.seeds):
        began, directory = time.perf_counter(), arguments.workdir / str(seed)
        for name in MODELS:
            train(name, seed, directory)
            print(f"seed {seed}, {name}: {time.perf_counter() - began:.0f} s", flush=True)
        found.append(measured(directory, list(MODELS)))
        print(f"seed {seed}: {time.perf_counter() - began:.0f} s", flush=True)
        print(table(found), flush=True)


if __name__ == "__main__":
    main()
