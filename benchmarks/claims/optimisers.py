"""Adam, its first moment in bfloat16, and two Adafactors: as good, and smaller."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import jax
import numpy as np

from benchmarks.claims.claim import Claim, Conclusion, Verdict
from benchmarks.claims.drawing import lines
from benchmarks.claims.runs import CHANGES, Finished, Run
from benchmarks.claims.small import pretraining
from benchmarks.claims.spread import difference, told
from distill.optim import OptimizerConfig, ScheduleConfig, make_optimizer, make_schedule
from students import vit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARGIN = 0.02
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
# What is set in the config, and what no config says.
_Name = Literal["adam", "adafactor"]
WAYS: dict[str, tuple[_Name, str]] = {
    "Adam": ("adam", "adam_in_float32"),
    "Adam, bfloat16 moment": ("adam", ""),
    "Adafactor, the variant": ("adafactor", ""),
    "Adafactor, as published": ("adafactor", "published_adafactor"),
}
ADAM, *_ = WAYS
VARIANTS = tuple(WAYS)[1:3]
PUBLISHED = tuple(WAYS)[3]

Key = tuple[str, float, int]


def runs(seeds: Sequence[int]) -> dict[Key, Run]:
    """By way, learning rate and seed."""
    return {
        (way, rate, seed): pretraining(
            {"optimizer.name": name, "optimizer.learning_rate": rate}, seed=seed, changed=changed
        )
        for way, (name, changed) in WAYS.items()
        for rate in RATES
        for seed in seeds
    }


def accuracy(run: Finished) -> float:
    """On test images; of what diverged, that of a guess."""
    return 0.1 if run.diverged else run.summary["test/accuracy"]


def conclude(found: Mapping[Key, Finished]) -> Conclusion:
    """Whether each at its best rate is on a par with Adam."""
    seeds = sorted({seed for *_, seed in found})
    values = {
        way: np.array([[accuracy(found[way, rate, s]) for s in seeds] for rate in RATES])
        for way in WAYS
    }
    best = {way: each[each.mean(axis=1).argmax()] for way, each in values.items()}
    apart = {way: difference(best[way], best[ADAM]) for way in WAYS if way != ADAM}
    on_a_par = all(apart[way].surely_within(MARGIN) for way in VARIANTS)
    worse = any(apart[way].surely_less and apart[way].mean < -MARGIN for way in VARIANTS)
    published_worse = difference(best[PUBLISHED], best[VARIANTS[1]])
    verdict: Verdict = "not visible here"
    if on_a_par:
        verdict = "holds" if published_worse.surely_less else "holds in part"
    elif worse:
        verdict = "does not hold"
    share = {way: state_share(name, changed) for way, (name, changed) in WAYS.items()}
    return Conclusion(
        verdict=verdict,
        because=(
            "Each at its best learning rate: "
            + "; ".join(f"{way} less {ADAM}: {each.told()} points" for way, each in apart.items())
            + f". The margin is {100 * MARGIN:g} points; as published less the variant: "
            f"{published_worse.told()}."
        ),
        here=", ".join(each.told() for each in apart.values()) + " points beside Adam",
        header=("accuracy, %", *(f"{rate:g}" for rate in RATES), "state, bytes of parameters"),
        rows=[
            (way, *(told(cell) for cell in each), f"{share[way]:.2f} ×")
            for way, each in values.items()
        ],
        series={"accuracy": {way: each.tolist() for way, each in values.items()}},
    )


def state_share(name: _Name, changed: str) -> float:
    """Bytes of an optimiser's moments for ViT-B/16's parameters, over those of float32."""
    network = vit.build(vit.configure("B/16", num_classes=1000, head="map"))
    params = network.abstract_params
    with CHANGES[changed]() if changed else contextlib.nullcontext():
        optimizer = make_optimizer(
            OptimizerConfig(name=name),
            make_schedule(ScheduleConfig(), 100_000),
            params,
            network.axes,
        )
        state = jax.eval_shape(optimizer.init, params)
    held, whole = (
        sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
        for tree in (state, params)
    )
    return held / whole


def draw(conclusion: Conclusion, figure: "Figure") -> None:
    """Accuracy against learning rate."""
    lines(
        figure.subplots(),
        RATES,
        conclusion.series["accuracy"],
        xlabel="learning rate",
        ylabel="test accuracy",
    )


CLAIMS = (
    Claim(
        name="optimisers",
        title="A bfloat16 moment and half of an Adafactor cost nothing",
        statement=(
            "Adam with its first moment in bfloat16, and Adafactor with a first moment and "
            "without its own learning rates, are on a par with Adam, with much smaller states; "
            "Adafactor as published is worse or unstable"
        ),
        source="Scaling Vision Transformers, arXiv 2106.04560, §3.4",
        published="on a par; 50% more memory instead of 200%",
        setting=(
            f"ViTs of width 32 and depth 3 on scenes, 1,200 steps of 64 images, at {len(RATES)} "
            "learning rates; each optimiser at that whose test accuracy, which is then compared, "
            "is the best. Adafactor as published is optax's, but for its schedule; the highest "
            "rate was added for it. States are those of ViT-B/16."
        ),
        refuted_by=f"One of the two surely worse than Adam, by more than {100 * MARGIN:g} points.",
        limits=(
            "At the best rates, runs of so few steps have a deviation of up to six points from "
            "seed to seed: three seeds do not tell a difference of two points from none."
        ),
        takes_diverged=True,
        runs=runs,
        conclude=conclude,
        draw=draw,
    ),
)
