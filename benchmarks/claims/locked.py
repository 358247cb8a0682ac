"""A text tower on a pre-trained image tower that stays as it is, beside training both."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.claims.claim import Claim, Conclusion, Verdict
from benchmarks.claims.equals import by_setting, draw_settings
from benchmarks.claims.runs import Finished, Run
from benchmarks.claims.spread import difference, told
from distill import config as configs

CONFIG = Path(__file__).resolve().parent.parent.parent / "configs" / "pretrain" / "scenes.py"
PAIRS = 2_000
STEPS, TOWER_STEPS = 800, 1_600
LOCKED, BOTH, DRAWN = "locked, pre-trained", "both trained from scratch", "locked, as drawn"


def _loaded() -> dict[str, Any]:
    return copy.deepcopy(configs.load_file(str(CONFIG)))


def tower(seed: int) -> Run:
    """An image tower that learns the combinations of all 16,000 scenes by their labels."""
    found = _loaded()
    found["model"] = found["model"]["image"] | {"num_classes": 200, "head": "gap"}
    del found["evals"], found["data"]["captions"]
    found |= {"seed": seed, "loss": {"kind": "softmax"}}
    found["train"] |= _of_length(TOWER_STEPS)
    return Run(pipeline="pretrain", config=found)


def pair(way: str, seed: int) -> Run:
    """A pair that learns from captions of 2,000 of them."""
    found = _loaded()
    found["seed"] = seed
    found["data"]["train_images"] = PAIRS
    found["train"] |= _of_length(STEPS)
    if way == LOCKED:
        del found["model"]["image"]
        return Run(pipeline="train_pair", config=found, uses=(("teacher.workdir", tower(seed)),))
    if way == DRAWN:
        found["optimizer"]["freeze"] = (("^image/", True),)
    return Run(pipeline="train_pair", config=found)


def _of_length(steps: int) -> dict[str, Any]:
    every = dict.fromkeys(("log_every", "eval_every", "checkpoint_every"), steps)
    return {"total_steps": steps, "keep_checkpoints": 1, "example_images": None, **every}


def runs(seeds: Sequence[int]) -> dict[tuple[str, int], Run]:
    """By way and seed."""
    return {(way, seed): pair(way, seed) for way in (LOCKED, BOTH, DRAWN) for seed in seeds}


def conclude(found: Mapping[tuple[str, int], Finished]) -> Conclusion:
    """Whether the locked tower's texts stand for more than those of both that were trained."""
    measures = {
        "seen combinations": by_setting(found, lambda run: run.summary["seen/accuracy"]),
        "held out": by_setting(found, lambda run: run.summary["heldout/accuracy"]),
    }
    apart = {name: difference(each[LOCKED], each[BOTH]) for name, each in measures.items()}
    verdict: Verdict = "not visible here"
    if all(one.surely_more for one in apart.values()):
        verdict = "holds"
    elif any(one.surely_less for one in apart.values()):
        verdict = "does not hold"
    elif any(one.surely_more for one in apart.values()):
        verdict = "holds in part"
    return Conclusion(
        verdict=verdict,
        because=(
            "Locked less both trained from scratch: "
            + ", ".join(f"{each.told()} points on {name}" for name, each in apart.items())
            + ". A tower that stays as it was drawn shows what the text tower alone can do."
        ),
        here=", ".join(each.told() for each in apart.values()) + " points above training both",
        header=("zero-shot among 200, %", *measures),
        rows=[
            (way, *(told(each[way]) for each in measures.values())) for way in (LOCKED, BOTH, DRAWN)
        ],
        series={"measures": measures},
    )


CLAIMS = (
    Claim(
        name="locked",
        title="A locked pre-trained image tower beats training both from scratch",
        statement=(
            "Contrastive tuning of a text tower on a pre-trained image tower that stays as it is "
            "has better zero-shot accuracy than training both from scratch"
        ),
        source="LiT, arXiv 2111.07991, §4; ViT-22B, arXiv 2302.05442, §4.3",
        published="LiT 85.2% zero-shot on ImageNet (CLIP 76.2%); ViT-22B 85.9%",
        setting=(
            "Scenes of two digits with captions (digit_scenes): towers of width 64 and depth 2 "
            f"learn from {PAIRS:,} pairs, {STEPS} steps of 128; the locked one was pre-trained on "
            "labels of 16,000 scenes. Combinations are chosen among all 200, of which 40 have "
            "never been seen."
        ),
        refuted_by="Both trained surely above the locked tower, on either kind of combination.",
        limits=(
            "The locked tower has seen labels of 14,000 scenes more than what is trained from "
            "scratch has captions of. What a tower that is pre-trained and then trained on with "
            "the text's would do is not among the runs, nor are other numbers of pairs."
        ),
        runs=runs,
        conclude=conclude,
        draw=draw_settings,
    ),
)
