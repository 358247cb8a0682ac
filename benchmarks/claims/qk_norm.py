"""QK normalisation: what it does to learning rates that are too large."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.claims.claim import Claim, Conclusion
from benchmarks.claims.drawing import lines
from benchmarks.claims.runs import Finished, Run
from benchmarks.claims.small import pretraining
from benchmarks.claims.spread import difference, told

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
STEPS = 400
EVERY = 50
WAYS = {False: "without", True: "with QK norm"}
# Of how much more a loss counts as bad: that of the best rate and a tenth of a guess's.
_GUESS = float(np.log(10))
_SLACK = 0.1 * _GUESS

Found = Mapping[tuple[bool, float, int], Finished]


def runs(seeds: Sequence[int], changed: str = "") -> dict[tuple[bool, float, int], Run]:
    """By whether there is a norm, learning rate and seed."""
    return {
        (normed, rate, seed): pretraining(
            {
                "model.qk_norm": normed,
                "optimizer.learning_rate": rate,
                "train.total_steps": STEPS,
                "train.log_every": EVERY,
                "evals": {"extremes": {"kind": "extremes", "every": EVERY}},
            },
            seed=seed,
            changed=changed if normed else "",
        )
        for normed in WAYS
        for rate in RATES
        for seed in seeds
    }


def loss(run: Finished) -> float:
    """On validation images at the end; of what diverged, that of a guess."""
    return _GUESS if run.diverged else min(run.summary["val/cross_entropy"], 2 * _GUESS)


def largest_logit(run: Finished) -> float:
    """Of all evaluations."""
    return max(run.curve("extremes/attention_logit")[1], default=float("nan"))


def conclude(found: Found) -> Conclusion:
    """Whether more learning rates work with it, and whether it holds logits down."""
    seeds = sorted({seed for _, _, seed in found})
    losses, logits = (
        {
            normed: np.array([[of(found[normed, rate, s]) for s in seeds] for rate in RATES])
            for normed in WAYS
        }
        for of in (loss, largest_logit)
    )
    best = min(one.min() for one in losses.values())
    usable = {n: (one < best + _SLACK).sum(axis=0) for n, one in losses.items()}
    more = difference(usable[True], usable[False])
    grown = {n: np.nanmax(one, axis=0) for n, one in logits.items()}
    ratio = grown[False].mean() / grown[True].mean()
    wider, held = more.surely_more, ratio > 2
    verdict = "holds" if wider and held else "holds in part" if wider or held else "does not hold"
    diverged = {n: sum(found[n, r, s].diverged for r in RATES for s in seeds) for n in WAYS}
    rows = [
        (
            f"{rate:g}",
            *(told(losses[n][i], 2, 1) for n in WAYS),
            *(f"{np.nanmean(logits[n][i]):.1f}" for n in WAYS),
        )
        for i, rate in enumerate(RATES)
    ]
    count = len(RATES)
    return Conclusion(
        verdict=verdict,
        because=(
            f"Of {count} learning rates {usable[True].mean():.1f} come within {_SLACK:.2f} nats of "
            f"the best loss with the norm and {usable[False].mean():.1f} without (difference "
            f"{more.told(1, 1)}). The largest attention logit of all "
            f"rates is, in the mean of seeds, {grown[False].mean():.0f} without and "
            f"{grown[True].mean():.0f} with it; "
            f"{diverged[False]} and {diverged[True]} of {count * len(seeds)} runs ended in numbers "
            "that are not finite."
        ),
        here=f"{usable[True].mean():.1f} against {usable[False].mean():.1f} of {count} rates work; "
        f"logits {grown[True].mean():.0f} against {grown[False].mean():.0f}",
        header=(
            "learning rate",
            "loss without",
            "with QK norm",
            "largest logit without",
            "with",
        ),
        rows=rows,
        series={
            "losses": {WAYS[n]: one.tolist() for n, one in losses.items()},
            "logits": {
                WAYS[n]: [
                    [found[n, rate, seeds[0]].curve("extremes/attention_logit")]
                    for rate in (RATES[2], RATES[4])
                ]
                for n in WAYS
            },
        },
    )


def draw(conclusion: Conclusion, figure: "Figure") -> None:
    """Loss against learning rate, and the largest logit over time."""
    left, right = figure.subplots(1, 2)
    lines(
        left,
        RATES,
        conclusion.series["losses"],
        xlabel="learning rate",
        ylabel="cross-entropy on validation images, nats",
    )
    for name, style in zip(conclusion.series["logits"], ("--", "-"), strict=True):
        for rate, ((steps, values),) in zip(
            (RATES[2], RATES[4]), conclusion.series["logits"][name], strict=True
        ):
            right.plot(steps, values, style, label=f"{rate:g}, {name}")
    right.set_yscale("log")
    right.set_xlabel("step")
    right.set_title("largest attention logit", fontsize=10)
    right.grid(alpha=0.3)
    right.legend(fontsize=8)


CLAIMS = (
    Claim(
        name="qk_norm",
        title="QK normalisation keeps attention logits small and training stable",
        statement=(
            "LayerNorm on queries and keys keeps attention logits from growing; without it "
            "training diverges from about 8 billion parameters, with logits above 50,000"
        ),
        source="ViT-22B, arXiv 2302.05442, §2.1 and its figure",
        published="diverges without, at 8B parameters",
        setting=(
            f"A ViT of width 32 and depth 3 on scenes, {STEPS} steps of 64 images, Adam, at "
            f"{len(RATES)} learning rates over three decades, with and without the norm. At this "
            "size logits grow where the learning rate is too large."
        ),
        refuted_by=(
            "No more learning rates that work with the norm than without it, and logits that grow "
            "half as large or larger with it. One of both holds in part."
        ),
        limits=(
            "At learning rates at which attention logits explode, the rest of so small a network "
            "fails as well: the norm keeps the logits, and saves few runs. The paper's models "
            "meet their logits at a learning rate that is right for all else."
        ),
        takes_diverged=True,
        runs=runs,
        conclude=conclude,
        draw=draw,
        broken="queries and keys are left as they are, whatever the config says",
        broken_runs=lambda seeds: runs(seeds, changed="without_qk_norm"),
    ),
)
