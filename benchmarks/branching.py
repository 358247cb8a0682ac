"""What a cooldown branched off one long run is worth, and what it saves, on digits.

  python benchmarks/branching.py [--workdir=runs/branching]

One run with the schedule of "Scaling Vision Transformers" (arXiv 2106.04560, §3.5) and no end is
branched at three points; each cooldown is as long as a fifth of what came before it. Beside each
stands the long run's own checkpoint of the same step, not cooled down, and a separate run of that
length from scratch. Accuracy is over the 600 validation and test images. Run again after it was
stopped, it goes on where it stood. About ten minutes on two CPU cores.
"""

import argparse
import functools
import sys
from pathlib import Path

# The code beside this file is what is measured, whether or not a copy of it is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from distill import config as configs
from distill.data import EvalLoader
from distill.evaluate import Evaluator
from distill.metrics import classification_metrics
from distill.parallel import MeshConfig, local_rows, make_mesh, put_batch
from distill.paths import path_argument
from distill.runs.opened import open_model
from distill.terminal import accept_any_text, text_table
from distill.train.branch import branch_config
from distill.train.workdir import Workdir
from pipelines import pretrain
from pipelines.pretrain import PretrainConfig

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "pretrain" / "digits.py"
POINTS = (500, 1000, 1500)
SHARE = 5
BATCH = 60
BASE = {
    "model.width": "64",
    "model.mlp_dim": "256",
    "schedule.warmup_steps": "50",
    "schedule.timescale_steps": "800",
    "train.batch_size": "64",
}


def cooldown(point: int) -> int:
    """Steps of the cooldown of a branch at a point."""
    return point // SHARE


def base(steps: int, cooldown_steps: int) -> PretrainConfig:
    """A small model's pre-training config of a given length."""
    lengths = {
        "train.total_steps": str(steps),
        "schedule.cooldown_steps": str(cooldown_steps),
        "train.checkpoint_every": "100",
        "train.keep_every": "100",
        "train.eval_every": "500",
    }
    return configs.resolve(PretrainConfig, configs.load_file(str(CONFIG)), BASE | lengths)


def train(config: PretrainConfig, workdir: Path) -> None:
    """Runs to the end, or goes on with a run that was stopped."""
    pretrain.run(config, Workdir(workdir), workdir.name, overview=False)


def score(config: PretrainConfig, workdir: Path, step: int) -> dict[str, float]:
    """Accuracy and cross-entropy of a checkpoint over validation and test images together."""
    mesh = make_mesh(MeshConfig())
    opened = open_model(workdir, mesh, step=step)
    network, params = opened.network, opened.params
    totals, images = {}, 0
    for split in ("validation", "test"):
        source = config.data.open(split, channels=config.model.channels)
        batches = EvalLoader(
            source,
            config.data,
            size=config.model.image_size,
            batch_size=BATCH,
            put=functools.partial(put_batch, mesh, size=BATCH),
            rows=local_rows(mesh, BATCH),
        )
        found = Evaluator(split, batches, classification_metrics(network))(params)
        for name, value in found.items():
            metric = name.removeprefix(f"{split}/")
            totals[metric] = totals.get(metric, 0.0) + value * len(source)
        images += len(source)
    return {name: total / images for name, total in totals.items()}


def main() -> None:
    """Trains everything and prints the table."""
    accept_any_text()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=path_argument, default="runs/branching")
    root = parser.parse_args().workdir

    ends = [point + cooldown(point) for point in POINTS]
    endless = base(max(ends), 0)
    train(endless, root / "endless")
    rows = []
    for point, end in zip(POINTS, ends, strict=True):
        branch, alone = root / f"branch_{point}", root / f"separate_{end}"
        overrides = {"schedule.cooldown_steps": str(cooldown(point))}
        origin = f"{root / 'endless'}@{point}"
        train(branch_config(PretrainConfig, origin, overrides, branch), branch)
        train(base(end, cooldown(point)), alone)
        scores = [score(endless, run, end) for run in (branch, root / "endless", alone)]
        rows.append(
            (
                f"{end}",
                f"{cooldown(point)} of {end}",
                *(f"{s['accuracy']:.2%}" for s in scores),
                *(f"{s['cross_entropy']:.4f}" for s in scores),
            )
        )
    header = ("step", "steps paid", "branched", "uncooled", "separate", "branched", "uncooled")
    print(text_table((*header, "separate"), rows))
    together = max(POINTS) + sum(map(cooldown, POINTS))
    print(
        f"\none run and its cooldowns: {together:,} steps; separate runs: {sum(ends):,}; "
        f"saved: {1 - together / sum(ends):.0%}"
    )


if __name__ == "__main__":
    main()
