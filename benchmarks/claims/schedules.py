"""Schedules without an end, cooled down at any time, beside those that know their length."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.claims.claim import Claim, Conclusion, Verdict
from benchmarks.claims.drawing import lines
from benchmarks.claims.runs import Finished, Run
from benchmarks.claims.small import pretraining
from benchmarks.claims.spread import difference, told

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARGIN = 0.02
LENGTHS = (600, 1_200, 2_400)
WARMUP = 60
# A fifth of a run of any length.
COOLDOWN = 20
LINEAR = "linear, of this length"
WAYS: dict[str, dict[str, object]] = {
    LINEAR: {"kind": "linear"},
    "rsqrt and cooldown": {"kind": "rsqrt", "timescale_steps": 300, "cooldown_percent": COOLDOWN},
    "constant and cooldown": {"kind": "constant", "cooldown_percent": COOLDOWN},
    "rsqrt, not cooled down": {"kind": "rsqrt", "timescale_steps": 300, "cooldown_steps": 0},
}
COOLED, UNCOOLED = tuple(WAYS)[1:3], tuple(WAYS)[3]

Key = tuple[str, int, int]


def runs(seeds: Sequence[int]) -> dict[Key, Run]:
    """By way, length and seed. A cooldown branched off a longer run is such a run, to the bit."""
    return {
        (way, length, seed): pretraining(
            {
                **{f"schedule.{key}": value for key, value in schedule.items()},
                "schedule.warmup_steps": WARMUP,
                "train.total_steps": length,
            },
            seed=seed,
        )
        for way, schedule in WAYS.items()
        for length in LENGTHS
        for seed in seeds
    }


def conclude(found: Mapping[Key, Finished]) -> Conclusion:
    """Whether cooled-down runs are as accurate as linear ones at every length."""
    seeds = sorted({seed for *_, seed in found})
    values = {
        way: np.array([[found[way, n, s].summary["test/accuracy"] for s in seeds] for n in LENGTHS])
        for way in WAYS
    }
    # Over lengths, seed by seed.
    apart = {way: difference(values[way].mean(0), values[LINEAR].mean(0)) for way in COOLED}
    cooling = difference(values[COOLED[0]].mean(0), values[UNCOOLED].mean(0))
    as_good = [one.surely_more or one.surely_within(MARGIN) for one in apart.values()]
    longest = {way: difference(values[way][-1], values[LINEAR][-1]) for way in COOLED}
    verdict: Verdict = "not visible here"
    if any(one.surely_less and one.mean < -MARGIN for one in apart.values()):
        verdict = "does not hold"
    elif all(as_good) and cooling.surely_more:
        verdict = "holds"
    elif any(as_good):
        verdict = "holds in part"
    one_run = max(LENGTHS) * (100 - COOLDOWN) // 100 + sum(LENGTHS) * COOLDOWN // 100
    return Conclusion(
        verdict=verdict,
        because=(
            "Over all lengths: "
            + "; ".join(f"{way} less linear: {each.told()} points" for way, each in apart.items())
            + "; at the longest alone "
            + ", ".join(each.told() for each in longest.values())
            + f"; a cooldown gives {cooling.told()}. One run and its cooldowns take {one_run:,} "
            f"steps for all {len(LENGTHS)} models, separate linear runs {sum(LENGTHS):,}."
        ),
        here=", ".join(each.told() for each in apart.values()) + " points beside linear",
        header=("accuracy, %", *(f"{length:,} steps" for length in LENGTHS)),
        rows=[(way, *(told(cell) for cell in each)) for way, each in values.items()],
        series={"accuracy": {way: each.tolist() for way, each in values.items()}},
    )


def draw(conclusion: Conclusion, figure: "Figure") -> None:
    """Accuracy against length."""
    lines(
        figure.subplots(),
        LENGTHS,
        conclusion.series["accuracy"],
        xlabel="steps",
        ylabel="test accuracy",
    )


CLAIMS = (
    Claim(
        name="schedules",
        title="Train one, get many: cooldowns off one run are worth separate runs",
        statement=(
            "Schedules that know no end, reciprocal square root or constant, with a linear "
            "cooldown at any time, do as well as a linear schedule of that length"
        ),
        source="Scaling Vision Transformers, arXiv 2106.04560, §3.5",
        published="rsqrt as good as or better than linear at each duration",
        setting=(
            "ViTs of width 32 and depth 3 on scenes for 600, 1,200 and 2,400 steps of 64 images; "
            f"{WARMUP} steps of warmup, cooldowns of a fifth."
        ),
        refuted_by=(
            f"One surely worse than linear over all lengths, by more than {100 * MARGIN:g} points."
        ),
        limits=(
            "All have one highest learning rate: one that suits linear schedules better might "
            "bring them up to the others, which keep it for longer."
        ),
        runs=runs,
        conclude=conclude,
        draw=draw,
    ),
)
