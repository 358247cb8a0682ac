"""A linear probe of a larger model beside fine-tuning all of a smaller one."""

from collections.abc import Mapping, Sequence

from benchmarks.claims.claim import Claim, Conclusion, Verdict
from benchmarks.claims.equals import by_setting, draw_settings
from benchmarks.claims.runs import Finished, Run
from benchmarks.claims.small import DOWNSTREAM, SCENES, pretraining, transferred, tree
from benchmarks.claims.spread import difference, told

# Of the digits that are not pre-trained on, to learn from: 300 of 1,000 drawn.
FEW = f"{SCENES}&images=1000"
STEPS, TUNING = 2_400, 600
RATES = {16: 6e-3, 64: 2e-3}
MARGIN = 0.02
SMALL, LARGE = RATES
# What the evaluation on other digits is called.
_OTHER = "other"
PROBED, PROBED_SMALL, TUNED, SCRATCH = (
    f"width {LARGE}, linear probe",
    f"width {SMALL}, linear probe",
    f"width {SMALL}, fine-tuned",
    f"width {SMALL}, from scratch",
)


def _before(width: int, seed: int) -> Run:
    """Pre-trained on the digits 0 to 6, its features probed on the others."""
    overrides = {
        "model.width": width,
        "optimizer.learning_rate": RATES[width],
        "train.total_steps": STEPS,
        **transferred(),
    }
    del overrides["transfer"]
    overrides["evals"] = {
        _OTHER: {
            "kind": "transfer",
            "sources": (FEW,),
            "classes": DOWNSTREAM,
            "shots": (),
            "probe": True,
            "test_split": "test",
        }
    }
    return pretraining(overrides, seed=seed)


def _on_few(seed: int) -> dict[str, object]:
    return tree(
        {
            "model.width": SMALL,
            "model.num_classes": len(DOWNSTREAM),
            "data.source": FEW,
            # Of which the probes' test images are, too.
            "data.eval_source": FEW,
            "data.classes": DOWNSTREAM,
            "optimizer.learning_rate": RATES[SMALL] / 2,
            "train.total_steps": TUNING,
        },
        seed=seed,
    )


def runs(seeds: Sequence[int]) -> dict[tuple[str, int], Run]:
    """By way and seed."""
    found = {}
    for seed in seeds:
        small, large = _before(SMALL, seed), _before(LARGE, seed)
        found[PROBED, seed], found[PROBED_SMALL, seed] = large, small
        tuned = Run(pipeline="finetune", config=_on_few(seed), uses=(("start.workdir", small),))
        found[TUNED, seed] = tuned
        found[SCRATCH, seed] = Run(pipeline="pretrain", config=_on_few(seed))
    return found


def accuracy(run: Finished) -> float:
    """On test images of 7, 8 and 9: of the probe where there is one, else of the classifier."""
    probed = f"probe/{_OTHER}/accuracy"
    return run.summary[probed if any("probe" in name for name in run.summary) else "test/accuracy"]


def conclude(found: Mapping[tuple[str, int], Finished]) -> Conclusion:
    """Whether a frozen large model is worth a trained small one."""
    values = by_setting(found, accuracy)
    apart = difference(values[PROBED], values[TUNED])
    size = difference(values[PROBED], values[PROBED_SMALL])
    verdict: Verdict = "not visible here"
    if difference(values[TUNED], values[PROBED]).surely_below(MARGIN):
        verdict = "holds"
    elif apart.surely_less:
        verdict = "does not hold"
    return Conclusion(
        verdict=verdict,
        because=(
            f"{PROBED} less {TUNED}: {apart.told()} points; the probe of the larger less that of "
            f"the smaller: {size.told()}. The margin for as good is {100 * MARGIN:g} points."
        ),
        here=f"{apart.told()} points above fine-tuning the smaller",
        header=("", "accuracy on 7, 8 and 9, %"),
        rows=[(way, told(each)) for way, each in values.items()],
        series={"measures": {"accuracy on 7, 8 and 9": values}},
    )


CLAIMS = (
    Claim(
        name="probing",
        title="A linear probe of a large model reaches fine-tuning of a smaller one",
        statement=(
            "Features of the largest models are so good that a linear classifier on them, frozen, "
            "is as good as smaller models of which everything is fine-tuned"
        ),
        source="ViT-22B, arXiv 2302.05442, §4.1 and its table of linear probes",
        published="ViT-22B probed 89.51%, ViT-L/16 fine-tuned 87.76%",
        setting=(
            f"ViTs of width {SMALL} and {LARGE}, pre-trained on scenes of the digits 0 to 6; "
            "about 300 scenes of 7, 8 and 9 to learn from."
        ),
        refuted_by="The probe of the larger surely below the fine-tuned smaller one.",
        limits=(
            "Judged was first whether the probe is better, and on other test images than "
            "fine-tuning. On about 280 test images, one seed differs from the next by several "
            "points."
        ),
        runs=runs,
        conclude=conclude,
        draw=draw_settings,
    ),
)
