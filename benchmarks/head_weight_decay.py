"""Weight decay of head and body apart: accuracy upstream against transfer to other classes.

  python benchmarks/head_weight_decay.py [--workdir=runs/head_weight_decay] [--figure=FILE.png]

The study behind the head decay of "Scaling Vision Transformers" (arXiv 2106.04560, §3.1 and its
figure), on digits: a small ViT is pre-trained on the digits 0 to 6 for each pair of decays; its
frozen features then tell 7, 8 and 9 apart by the few-shot linear regression. Upstream is the
accuracy on validation and test images of 0 to 6. Run again after it was stopped, it goes on where
it stood.
"""

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np

# The code beside this file is what is measured, whether or not a copy of it is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from matplotlib.figure import Figure

from distill import config as configs
from distill.paths import path_argument
from distill.terminal import accept_any_text, text_table
from distill.train.workdir import Workdir
from pipelines import pretrain
from pipelines.pretrain import PretrainConfig

CONFIG = Path(__file__).resolve().parent.parent / "configs" / "pretrain" / "digits.py"
# Times the learning rate, as the recipe gives them: 3 for the head and 0.03 for the body.
HEAD = (0.0, 0.03, 0.3, 3.0, 30.0)
BODY = (0.0, 0.03, 0.3, 3.0)
SHOTS = 10
UPSTREAM, HELD_OUT = tuple("0123456"), tuple("789")
RATE = 3e-3
# Of the digits 0 to 6 in the validation and test splits.
IMAGES = (168, 254)


def config_of(head: float, body: float, seed: int, steps: int) -> PretrainConfig:
    """A small ViT's pre-training on some of the digits, evaluated on the others."""
    return configs.resolve(
        PretrainConfig,
        configs.load_file(str(CONFIG))
        | {
            "seed": seed,
            "transfer": dict(classes=HELD_OUT, shots=(SHOTS,), seeds=tuple(range(10))),
        },
        {
            "model.width": "32",
            "model.mlp_dim": "128",
            "model.num_classes": str(len(UPSTREAM)),
            "data.classes": str(UPSTREAM),
            "optimizer.learning_rate": str(RATE),
            "optimizer.weight_decay": str(
                (("classifier/kernel$", head * RATE), ("kernel$", body * RATE))
            ),
            "schedule.cooldown_steps": str(steps // 4),
            "train.total_steps": str(steps),
            "train.eval_every": str(steps),
            "train.checkpoint_every": str(steps),
            "train.log_every": str(steps),
        },
    )


def measure(root: Path, head: float, body: float, seed: int, steps: int) -> tuple[float, float]:
    """Upstream accuracy and few-shot accuracy of one run."""
    workdir = Workdir(root / f"head_{head:g}_body_{body:g}_seed_{seed}")
    run = pretrain.run(
        config_of(head, body, seed, steps), workdir, workdir.path.name, overview=False
    )
    summary = run.summary
    upstream = np.average([summary["val/accuracy"], summary["test/accuracy"]], weights=IMAGES)
    return float(upstream), summary[f"fewshot/{SHOTS}"]


def draw(maps: dict[str, np.ndarray], file: Path) -> None:
    """The two heat maps, side by side."""
    drawing = Figure(figsize=(10, 4), layout="constrained")
    for axes, (title, values) in zip(drawing.subplots(1, 2), maps.items(), strict=True):
        shown = axes.imshow(100 * values, origin="lower", cmap="viridis")
        axes.set_xticks(range(len(HEAD)), [f"{h:g}" for h in HEAD])
        axes.set_yticks(range(len(BODY)), [f"{b:g}" for b in BODY])
        axes.set_xlabel("head weight decay / learning rate")
        axes.set_ylabel("body weight decay / learning rate")
        axes.set_title(title)
        middle = (values.min() + values.max()) / 2
        for (row, column), value in np.ndenumerate(values):
            colour = "white" if value < middle else "black"
            axes.text(column, row, f"{100 * value:.1f}", ha="center", va="center", color=colour)
        drawing.colorbar(shown, ax=axes, label="%")
    drawing.savefig(file, dpi=110)


def main() -> None:
    """Trains the grid and prints and draws both maps."""
    accept_any_text()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=path_argument, default="runs/head_weight_decay")
    parser.add_argument(
        "--figure", type=path_argument, help="default: WORKDIR/head_weight_decay.png"
    )
    parser.add_argument("--steps", type=int, default=800, help="of each run")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each pair")
    arguments = parser.parse_args()

    found = np.zeros((len(BODY), len(HEAD), arguments.seeds, 2))
    pairs = itertools.product(enumerate(BODY), enumerate(HEAD), range(arguments.seeds))
    for (row, body), (column, head), seed in pairs:
        found[row, column, seed] = measure(arguments.workdir, head, body, seed, arguments.steps)
    means = found.mean(axis=2)
    maps = {
        "upstream accuracy, digits 0 to 6": means[..., 0],
        f"{SHOTS}-shot accuracy, digits 7 to 9": means[..., 1],
    }
    for title, values in maps.items():
        rows = [
            (f"body {body:g}", *(f"{value:.2%}" for value in line))
            for body, line in zip(BODY, values, strict=True)
        ]
        print(f"\n{title}\n{text_table(('', *(f'head {head:g}' for head in HEAD)), rows)}")
    spread = found.std(axis=2).mean(axis=(0, 1))
    print(f"\nmean spread over {arguments.seeds} seeds: {spread[0]:.2%} and {spread[1]:.2%}")
    figure = arguments.figure or arguments.workdir / "head_weight_decay.png"
    draw(maps, figure)
    print(f"figure: {figure}")


if __name__ == "__main__":
    main()
