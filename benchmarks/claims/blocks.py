"""Blocks of ViT-22B beside plain ones: as good, and faster where it counts."""

from collections.abc import Mapping, Sequence

from benchmarks.claims.claim import Claim, Conclusion
from benchmarks.claims.equals import draw_settings, equal
from benchmarks.claims.runs import Finished, Run
from benchmarks.claims.small import pretraining

MARGIN = 0.02
SEEDS = 10
PARALLEL = "parallel, few biases"
WAYS = {
    PARALLEL: {},
    "sequential, few biases": {"model.parallel": False},
    "parallel, all biases": {"model.qkv_bias": True, "model.norm_bias": True},
    "sequential, all biases": {
        "model.parallel": False,
        "model.qkv_bias": True,
        "model.norm_bias": True,
    },
}


def runs(seeds: Sequence[int]) -> dict[tuple[str, int], Run]:
    """By way and seed; more seeds than asked for, as it takes many to tell of no loss."""
    model = {"model.family": "vit_22b", "model.variant": "22B/4"}
    return {
        (way, seed): pretraining({**model, **overrides}, seed=seed)
        for way, overrides in WAYS.items()
        for seed in range(max(SEEDS, len(seeds)))
    }


def conclude(found: Mapping[tuple[str, int], Finished]) -> Conclusion:
    """Whether none of the others is more accurate."""
    return equal(
        found,
        {"test accuracy": lambda run: run.summary["test/accuracy"]},
        than=PARALLEL,
        margin=MARGIN,
        or_better=True,
        more={"parameters": lambda some: f"{some[0].summary['parameters']:,}"},
    )


CLAIMS = (
    Claim(
        name="blocks",
        title="Parallel blocks without most biases lose nothing",
        statement=(
            "Attention and MLP side by side, without biases on queries, keys, values and norms, "
            "train as well as one after the other with all biases, in less time"
        ),
        source="ViT-22B, arXiv 2302.05442, §2.1 and §2.2",
        published="15% less time, 3% more utilisation, no loss of quality",
        setting=(
            "ViTs of width 32 and depth 3 on scenes, 1,200 steps of 64 images. Their time at full "
            "size is planned in [scale.md](scale.md), not measured here."
        ),
        refuted_by=f"A way that is surely better than the first, by over {100 * MARGIN:g} points.",
        limits=(
            "Judged was first, of three seeds, whether all are equal, which does not hold: at this "
            "size parallel blocks are better than sequential ones. Sequential blocks with all "
            "biases were added last. That nothing is lost is half of the claim: time is not "
            "measured here."
        ),
        runs=runs,
        conclude=conclude,
        draw=draw_settings,
    ),
)
