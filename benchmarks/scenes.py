"""Do texts stand for what a pair has never seen together, and does its student keep that?

  python benchmarks/scenes.py [--workdir=runs/scenes] [--seeds=3]

configs/pretrain/scenes.py, configs/distill/scenes.py and configs/evaluate/scenes.py, each with
several seeds, and two controls that learn from as many images: a text tower on an image tower that
stays as it was drawn, and a pair whose captions are those of other scenes. Run again after it was
stopped, it goes on where it stood.
"""

import argparse
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np

# The code beside this file is what is measured, whether or not a copy of it is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from distill import config as configs
from distill.data.sources.digit_scenes import COMBINATIONS, DigitScenes
from distill.paths import path_argument
from distill.runs.distillation import DistillConfig
from distill.runs.evaluated import EvaluateConfig, evaluate
from distill.runs.pairs import PairTrainingConfig
from distill.terminal import accept_any_text, text_table
from distill.train.workdir import Workdir
from pipelines import distill_student, train_pair

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
MEASURES = {
    "seen/accuracy": "seen, of 200",
    "heldout/accuracy": "held out, of 200",
    "heldout_alone/accuracy": "held out, of 40",
}
MODELS = ("pair", "student", "random image tower", "shuffled captions")


def _resolved(schema, name, **overrides):
    tree = configs.load_file(str(CONFIGS / name / "scenes.py"))
    return configs.resolve(schema, tree, {key: str(value) for key, value in overrides.items()})


def _shuffled(scenes: DigitScenes, index: int) -> tuple[str, ...]:
    """What another combination shows, drawn anew for each scene."""
    drawn = np.random.default_rng((7, index)).integers(len(COMBINATIONS))
    return COMBINATIONS[drawn].captions


def train(model: str, seed: int, directory: Path) -> Path:
    """Trains one of `MODELS`, or goes on with it; returns its workdir."""
    path = directory / f"{model.replace(' ', '_')}-{seed}"
    choices: dict[str, object] = {"seed": seed, "train.log_every": 500}
    if model == "student":
        teacher = {"teacher.workdir": directory / f"pair-{seed}"}
        config = _resolved(DistillConfig, "distill", **choices, **teacher)
        distill_student.run(config, Workdir(path), path.name, overview=False)
        return path
    if model == "random image tower":
        choices["optimizer.freeze"] = (("^image/", True),)
    config = _resolved(PairTrainingConfig, "pretrain", **choices)
    captions = _shuffled if model == "shuffled captions" else DigitScenes.captions
    with mock.patch.object(DigitScenes, "captions", captions):
        train_pair.run(config, Workdir(path), path.name, overview=False)
    return path


def table(found: dict[tuple[str, int], dict[str, float]]) -> str:
    """A row for each model and seed."""
    rows = [
        (model, str(seed), *(f"{measured[name]:.1%}" for name in MEASURES))
        for (model, seed), measured in found.items()
    ]
    return text_table(("model", "seed", *MEASURES.values()), rows)


def main() -> None:
    """Runs what the arguments ask for."""
    accept_any_text()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workdir", type=path_argument, default=Path("runs/scenes"))
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    evals = _resolved(EvaluateConfig, "evaluate").evals
    found, seconds = {}, {}
    for seed in range(arguments.seeds):
        for model in MODELS:
            began = time.perf_counter()
            path = train(model, seed, arguments.workdir)
            found[model, seed] = evaluate(path, evals)
            seconds[model, seed] = time.perf_counter() - began
            print(f"{model}, seed {seed}: {seconds[model, seed]:.0f} s", flush=True)
            print(table(found), flush=True)


if __name__ == "__main__":
    main()
