"""What goes with size beside accuracy: corruptions, calibration, the worst digit."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from benchmarks.claims.claim import Claim, Conclusion, Verdict
from benchmarks.claims.drawing import lines
from benchmarks.claims.runs import Finished
from benchmarks.claims.sizes import IMAGES, SETTING, WIDTHS, Key, by_width, on_most_images, upstream
from benchmarks.claims.spread import difference, told

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Grid = Mapping[Key, Finished]
MOST = f"{IMAGES[-1]:,}"


def corrupted(run: Finished) -> float:
    """Share of corrupted images that are right, the mean over corruptions."""
    return run.summary["corrupted/mean_accuracy"]


def calibration_error(run: Finished) -> float:
    """Expected calibration error on test images, a share."""
    return run.summary["calibrated/ece"]


def gap(run: Finished) -> float:
    """Accuracy of the best digit less that of the worst."""
    return run.summary["groups/accuracy_gap"]


def worst(run: Finished) -> float:
    """Accuracy of the worst digit."""
    return run.summary["groups/worst_accuracy"]


def _robustness(found: Grid) -> Conclusion:
    clean = 1 - by_width(found, upstream)
    broken = by_width(found, corrupted)
    # Between the two largest, where clean accuracy saturates first.
    last_clean = difference(clean[-1], clean[-2])
    last_broken = difference(broken[-1], broken[-2])
    more = difference(broken[-1] - broken[-2], clean[-1] - clean[-2])
    verdict: Verdict = "not visible here"
    if last_broken.surely_more and more.surely_more:
        verdict = "holds"
    elif more.surely_less:
        verdict = "does not hold"
    elif last_broken.surely_more:
        verdict = "holds in part"
    return Conclusion(
        verdict=verdict,
        because=(
            f"From width {WIDTHS[-2]} to {WIDTHS[-1]} clean accuracy grows by {last_clean.told()} "
            f"points and accuracy on corrupted images by {last_broken.told()}: "
            f"{more.told()} more."
        ),
        here=f"{last_clean.told()} clean, {last_broken.told()} corrupted, by the last doubling",
        header=("accuracy, %", *(f"width {w}" for w in WIDTHS)),
        rows=[
            ("clean", *(told(one) for one in clean)),
            ("corrupted", *(told(one) for one in broken)),
        ],
        series={
            "values": {"clean": clean.tolist(), "corrupted": broken.tolist()},
            "called": "test images, accuracy",
        },
    )


def _calibration(found: Grid) -> Conclusion:
    error = by_width(found, calibration_error)
    wrong = by_width(found, upstream)
    falls = difference(error[0], error[-1])
    verdict: Verdict = "not visible here"
    if falls.surely_more:
        verdict = "holds"
    elif falls.surely_less:
        verdict = "does not hold"
    return Conclusion(
        verdict=verdict,
        because=(
            f"With {MOST} images the expected calibration error is {told(error[0])} at width "
            f"{WIDTHS[0]} and {told(error[-1])} points at width {WIDTHS[-1]}, "
            f"{falls.told()} less, without any temperature."
        ),
        here=f"{100 * error[0].mean():.1f} → {100 * error[-1].mean():.1f} points of ECE",
        header=("", *(f"width {w}" for w in WIDTHS)),
        rows=[
            ("calibration error, points", *(told(one) for one in error)),
            ("error, %", *(told(one) for one in wrong)),
        ],
        series={
            "values": {"calibration error": error.tolist(), "error": wrong.tolist()},
            "called": "on test images",
        },
    )


def _subgroups(found: Grid) -> Conclusion:
    gaps = by_width(found, gap)
    worsts = by_width(found, worst)
    shrinks = difference(gaps[0], gaps[-1])
    better = difference(worsts[-1], worsts[0])
    verdict: Verdict = "not visible here"
    if shrinks.surely_more and better.surely_more:
        verdict = "holds"
    elif better.surely_more:
        verdict = "holds in part"
    elif shrinks.surely_less:
        verdict = "does not hold"
    return Conclusion(
        verdict=verdict,
        because=(
            f"With {MOST} images the gap between the best and the worst digit is {told(gaps[0])} "
            f"points at width {WIDTHS[0]} and {told(gaps[-1])} at width {WIDTHS[-1]}, "
            f"{shrinks.told()} less; the worst digit gains {better.told()}."
        ),
        here=f"{100 * gaps[0].mean():.0f} → {100 * gaps[-1].mean():.0f} points between digits",
        header=("", *(f"width {w}" for w in WIDTHS)),
        rows=[
            ("gap, points", *(told(one) for one in gaps)),
            ("worst digit, accuracy in %", *(told(one) for one in worsts)),
        ],
        series={
            "values": {"gap": gaps.tolist(), "error of the worst": (1 - worsts).tolist()},
            "called": "between digits, on test images",
        },
    )


def _draw(conclusion: Conclusion, figure: "Figure") -> None:
    """A panel for each figure, as they are of different size."""
    values = conclusion.series["values"]
    for axes, (name, each) in zip(figure.subplots(1, len(values)), values.items(), strict=True):
        called = f"{name} {conclusion.series['called']}"
        lines(axes, WIDTHS, {name: each}, xlabel="width", ylabel=called)


CLAIMS = (
    Claim(
        name="robustness",
        title="Out of distribution, accuracy grows on where it saturates at home",
        statement=(
            "Larger models keep gaining on shifted data sets where ImageNet's accuracy hardly grows"
        ),
        source="ViT-22B, arXiv 2302.05442, §4.2 and its table of ImageNet variants",
        published="ObjectNet grows on with size at equal ImageNet accuracy",
        setting=(
            f"{SETTING} Test images under all corruptions at severity 2; with {MOST} images to "
            "train on. The shift here is one of noise, blur and weather, not of other photographs."
        ),
        refuted_by="Surely fewer points on corrupted than on clean images by the last doubling.",
        limits=(
            "Clean accuracy does not saturate at these sizes: it still grows by as much as "
            "accuracy on corrupted images, so that there is nothing for the one to outlast."
        ),
        runs=on_most_images,
        conclude=_robustness,
        draw=_draw,
    ),
    Claim(
        name="calibration",
        title="Larger models are better calibrated",
        statement="Calibration error falls with size, beside accuracy, without any temperature",
        source="ViT-22B, arXiv 2302.05442, §4.6 and its figure of ECE",
        published="ViT-22B on the frontier of ECE and error",
        setting=f"{SETTING} With {MOST} of them.",
        refuted_by="A calibration error that is surely larger for the largest model.",
        runs=on_most_images,
        conclude=_calibration,
        draw=_draw,
    ),
    Claim(
        name="subgroups",
        title="Gaps between groups shrink with size",
        statement="Larger models improve all groups, and differences between groups become smaller",
        source="ViT-22B, arXiv 2302.05442, §4.7 (fairness)",
        published="all groups gain, gaps shrink",
        setting=f"{SETTING} Groups are the digits; with {MOST} images to train on.",
        refuted_by="A gap between digits that is surely larger for the largest model.",
        runs=on_most_images,
        conclude=_subgroups,
        draw=_draw,
    ),
)
