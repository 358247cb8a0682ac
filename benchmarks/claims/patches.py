"""The number of patches, not resolution: patch and image scaled together."""

from collections.abc import Mapping, Sequence

from benchmarks.claims.claim import Claim, Conclusion, Verdict
from benchmarks.claims.equals import by_setting, draw_settings
from benchmarks.claims.runs import Finished, Run
from benchmarks.claims.small import pretraining
from benchmarks.claims.spread import difference, told

MARGIN = 0.03
# Drawn once at the largest size, and resized.
SOURCE = "scenes?digits=1&difficulty=2&size=32"
WAYS = {
    "16 px, patches of 8: 4": (16, 8),
    "32 px, patches of 16: 4": (32, 16),
    "16 px, patches of 4: 16": (16, 4),
    "32 px, patches of 8: 16": (32, 8),
    "16 px, patches of 2: 64": (16, 2),
    "32 px, patches of 4: 64": (32, 4),
}
FEW, FEW_LARGER, MANY, MANY_LARGER, *_ = WAYS


def runs(seeds: Sequence[int]) -> dict[tuple[str, int], Run]:
    """By way and seed."""
    return {
        (way, seed): pretraining(
            {
                "model.variant": f"mu/{patch}",
                "model.image_size": size,
                "data.source": f"{SOURCE}&images=20000",
                "data.eval_source": SOURCE,
            },
            seed=seed,
        )
        for way, (size, patch) in WAYS.items()
        for seed in seeds
    }


def conclude(found: Mapping[tuple[str, int], Finished]) -> Conclusion:
    """Whether accuracy goes with patches and hardly with pixels."""
    values = by_setting(found, lambda run: run.summary["test/accuracy"])
    patches = difference(values[MANY], values[FEW])
    pixels = [
        difference(values[FEW_LARGER], values[FEW]),
        difference(values[MANY_LARGER], values[MANY]),
    ]
    most = max(abs(one.mean) for one in pixels)
    verdict: Verdict = "not visible here"
    if patches.surely_more and most < abs(patches.mean) / 2:
        verdict = "holds" if all(one.surely_within(MARGIN) for one in pixels) else "holds in part"
    elif any(
        (one.surely_more or one.surely_less) and abs(one.mean) > abs(patches.mean) for one in pixels
    ):
        verdict = "does not hold"
    return Conclusion(
        verdict=verdict,
        because=(
            f"16 patches instead of 4 at 16 pixels: {patches.told()} points; twice the pixels "
            f"with 4 patches {pixels[0].told()}, with 16 {pixels[1].told()}. The margin for equal "
            f"is {100 * MARGIN:g} points."
        ),
        here=f"{patches.told()} points by patches, {pixels[0].told()} and {pixels[1].told()} by "
        "pixels",
        header=("", "test accuracy, %"),
        rows=[(way, told(each)) for way, each in values.items()],
        series={"measures": {"test accuracy": values}},
    )


CLAIMS = (
    Claim(
        name="patches",
        title="The number of patches counts, not the resolution",
        statement=(
            "Quality goes with the number of patches an image is cut into; resolution and patch "
            "scaled together change little"
        ),
        source="Scaling Vision Transformers, arXiv 2106.04560, §2 (S/16, S/32 … by patch)",
        published="models of equal patches lie together",
        setting=(
            "ViTs of width 32 and depth 3, 1,200 steps of 64 images, on scenes drawn at 32 pixels "
            "and shown at 16 or 32, in patches of 2 to 16 pixels."
        ),
        refuted_by=(
            "A sure change by twice the pixels that is larger than that by four times the patches."
        ),
        limits=(
            "A scene is told as well by 4 patches as by 64: their number is no bottleneck here. 64 "
            "beside 16 were judged first, before 4 were tried."
        ),
        runs=runs,
        conclude=conclude,
        draw=draw_settings,
    ),
)
