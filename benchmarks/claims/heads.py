"""Class token, mean and attention pooling: as good for few-shot transfer."""

from collections.abc import Mapping, Sequence

from benchmarks.claims.claim import Claim, Conclusion
from benchmarks.claims.equals import draw_settings, equal
from benchmarks.claims.runs import Finished, Run
from benchmarks.claims.small import pretraining, transferred

MARGIN = 0.02
SEEDS = 5
HEADS = {"map": "attention (MAP)", "gap": "mean", "cls": "class token"}


def runs(seeds: Sequence[int]) -> dict[tuple[str, int], Run]:
    """By head and seed; more seeds than asked for, as equality takes many."""
    return {
        (called, seed): pretraining({"model.head": head, **transferred()}, seed=seed)
        for head, called in HEADS.items()
        for seed in range(max(SEEDS, len(seeds)))
    }


def conclude(found: Mapping[tuple[str, int], Finished]) -> Conclusion:
    """Whether features are as good, of classes seen and unseen."""
    return equal(
        found,
        {
            "upstream accuracy": lambda run: run.summary["test/accuracy"],
            "10-shot accuracy on 7, 8 and 9": lambda run: run.summary["fewshot/10"],
        },
        than=HEADS["map"],
        margin=MARGIN,
        more={"parameters": lambda some: f"{some[0].summary['parameters']:,}"},
    )


CLAIMS = (
    Claim(
        name="heads",
        title="Class token, mean and attention pooling do equally well",
        statement=(
            "With the head's weight decay apart, class token, global average and MAP heads "
            "perform alike; a class token makes 257 tokens of 256, which costs up to half of a "
            "TPU's memory in padding"
        ),
        source="Scaling Vision Transformers, arXiv 2106.04560, §3.1 and §3.2",
        published="alike; 50% more memory with the class token",
        setting=(
            "ViTs of width 32 and depth 3 on scenes of the digits 0 to 6, 1,200 steps of 64 "
            "images; 10-shot regression on 7, 8 and 9."
        ),
        refuted_by=f"A head that is surely apart from MAP, by more than {100 * MARGIN:g} points.",
        runs=runs,
        conclude=conclude,
        draw=draw_settings,
    ),
)
