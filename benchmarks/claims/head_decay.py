"""Weight decay of the head apart from the body's: upstream accuracy against few-shot transfer."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.claims.claim import Claim, Conclusion, Verdict
from benchmarks.claims.drawing import lines
from benchmarks.claims.runs import Finished, Run
from benchmarks.claims.small import pretraining, transferred
from benchmarks.claims.spread import difference, told

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Times the learning rate, as the recipe gives them: 3 for the head and 0.03 for the body.
HEAD = (0.03, 0.3, 3.0, 30.0)
BODY = 0.03
RATE = 3e-3
# Few images, so that there is something to learn by heart.
IMAGES = 2_000

Key = tuple[float, int]


def runs(seeds: Sequence[int], *, everywhere: bool = False) -> dict[Key, Run]:
    """By the head's decay and seed.

    Args:
      seeds: of each setting's runs.
      everywhere: whether the body decays as the head does.
    """

    def rules(head: float) -> tuple[tuple[str, float], ...]:
        body = head if everywhere else BODY
        return (("classifier/kernel$", head * RATE), ("kernel$", body * RATE))

    return {
        (head, seed): pretraining(
            {
                "optimizer.learning_rate": RATE,
                "optimizer.weight_decay": rules(head),
                **transferred(IMAGES),
            },
            seed=seed,
        )
        for head in HEAD
        for seed in seeds
    }


def conclude(found: Mapping[Key, Finished]) -> Conclusion:
    """Whether a strong decay of the head alone helps few-shot transfer, and what it costs."""
    seeds = sorted({seed for _, seed in found})
    upstream, fewshot = (
        np.array([[found[head, seed].summary[name] for seed in seeds] for head in HEAD])
        for name in ("test/accuracy", "fewshot/10")
    )
    strong, weak = HEAD.index(3.0), HEAD.index(BODY)
    gained = difference(fewshot[strong], fewshot[weak])
    paid = difference(upstream[strong], upstream[weak])
    verdict: Verdict = "not visible here"
    if gained.surely_more:
        verdict = "holds" if gained.mean > paid.mean else "holds in part"
    elif gained.surely_less:
        verdict = "does not hold"
    return Conclusion(
        verdict=verdict,
        because=(
            f"A head's decay of 3 instead of {BODY} times the learning rate gives "
            f"{gained.told()} points of 10-shot accuracy and {paid.told()} upstream."
        ),
        here=f"{gained.told()} points few-shot, {paid.told()} upstream",
        header=("accuracy, %", *(f"head {head:g}" for head in HEAD)),
        rows=[
            ("upstream, digits 0 to 6", *(told(one) for one in upstream)),
            ("10 shots, digits 7 to 9", *(told(one) for one in fewshot)),
        ],
        series={
            "accuracy": {
                "upstream": upstream.tolist(),
                "10 shots of other digits": fewshot.tolist(),
            }
        },
    )


def draw(conclusion: Conclusion, figure: "Figure") -> None:
    """Both accuracies against the head's decay."""
    lines(
        figure.subplots(),
        HEAD,
        conclusion.series["accuracy"],
        xlabel="weight decay of the head / learning rate",
        ylabel="accuracy",
    )


CLAIMS = (
    Claim(
        name="head_decay",
        title="A strong weight decay of the head alone helps few-shot transfer",
        statement=(
            "A decay of the head a hundred times that of the body worsens upstream accuracy "
            "little and improves few-shot transfer much; the same decay everywhere does not"
        ),
        source="Scaling Vision Transformers, arXiv 2106.04560, §3.1 and its figure of both decays",
        published="head 3.0, body 0.03",
        setting=(
            "ViTs of width 32 and depth 3 on 2,000 scenes of the digits 0 to 6, 1,200 steps of 64 "
            "images; 10-shot regression on 7, 8 and 9. A wider grid on plain digits is in "
            "[pretraining.md](pretraining.md#optimisers)."
        ),
        refuted_by="10-shot accuracy that is surely lower with the stronger decay.",
        runs=runs,
        conclude=conclude,
        draw=draw,
        broken="the body decays as much as the head",
        broken_runs=lambda seeds: runs(seeds, everywhere=True),
    ),
)
