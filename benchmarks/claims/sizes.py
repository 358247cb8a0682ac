"""Models of several sizes on several amounts of data: one grid, which several claims look at."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.claims.claim import Claim, Conclusion
from benchmarks.claims.drawing import lines
from benchmarks.claims.runs import Finished, Run
from benchmarks.claims.small import DOWNSTREAM, UPSTREAM, pretraining, transferred
from benchmarks.claims.spread import difference, told

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTHS = (8, 16, 32, 64)
IMAGES = (1_000, 4_000, 16_000, 64_000)
STEPS = 2_000
SHOTS = 10
# Of the runs that decide what the last fourfold of the data gives, which is little.
SEEDS_OF_CORNERS = 6
# As wide models learn fastest with smaller steps than narrow ones.
RATES = {8: 1e-2, 16: 6e-3, 32: 3e-3, 64: 2e-3}

Key = tuple[int, int, int]
Grid = Mapping[Key, Finished]


def run(width: int, images: int, seed: int) -> Run:
    """A ViT trained on the digits 0 to 6, and what its features say of 7, 8 and 9."""
    return pretraining(
        {
            "model.width": width,
            "optimizer.learning_rate": RATES[width],
            "train.total_steps": STEPS,
            **transferred(images),
            "evals": {
                "corrupted": {
                    "kind": "corruptions",
                    "side": 32,
                    "severities": (2,),
                    "images": 400,
                    "split": "test",
                },
                "calibrated": {"kind": "calibration", "split": "test", "held_out": 0.0},
                "groups": {"kind": "subgroups", "split": "test"},
            },
        },
        seed=seed,
    )


def grid(seeds: Sequence[int]) -> dict[Key, Run]:
    """By width, images and seed."""
    return {
        (width, images, seed): run(width, images, seed)
        for width in WIDTHS
        for images in IMAGES
        for seed in seeds
    }


def on_most_images(seeds: Sequence[int]) -> dict[Key, Run]:
    """Those of the grid that have the most images."""
    return {key: one for key, one in grid(seeds).items() if key[1] == IMAGES[-1]}


def _with_corners(seeds: Sequence[int]) -> dict[Key, Run]:
    """The grid, with more seeds of the smallest and largest width on the most images."""
    more = range(max(SEEDS_OF_CORNERS, len(seeds)))
    return grid(seeds) | {
        (width, images, seed): run(width, images, seed)
        for width in (WIDTHS[0], WIDTHS[-1])
        for images in IMAGES[-2:]
        for seed in more
    }


def upstream(run: Finished) -> float:
    """Share of test images that are wrong."""
    return 1 - run.summary["test/accuracy"]


def downstream(run: Finished) -> float:
    """Share of images of other classes that few-shot regression on its features gets wrong."""
    return 1 - run.summary[f"fewshot/{SHOTS}"]


def table(found: Grid, of) -> np.ndarray:
    """A measure of each run, [widths, images, seeds], of those seeds that all settings have."""
    seeds = [s for s in sorted({s for *_, s in found}) if (WIDTHS[1], IMAGES[0], s) in found]
    return np.array([[[of(found[w, n, seed]) for seed in seeds] for n in IMAGES] for w in WIDTHS])


def by_width(found: Grid, of) -> np.ndarray:
    """A measure of the runs on the most images, [widths, seeds]."""
    seeds = sorted({seed for *_, seed in found})
    return np.array([[of(found[w, IMAGES[-1], seed]) for seed in seeds] for w in WIDTHS])


def _data_and_size(found: Grid) -> Conclusion:
    """Whether small models stop gaining from data that large ones still use."""
    errors = table(found, upstream)
    small, large = (_last_gain(found, width) for width in (WIDTHS[0], WIDTHS[-1]))
    shares = difference(large, small)
    fewer = _images_needed(errors)
    verdict = "holds" if shares.surely_more and fewer else "holds in part"
    if not shares.surely_more and not fewer:
        verdict = "does not hold"
    rows = [
        (f"width {w}", *(told(cell) for cell in errors[i]), told(_last_gain(found, w), 0))
        for i, w in enumerate(WIDTHS)
    ]
    return Conclusion(
        verdict=verdict,
        because=(
            f"From {IMAGES[-2]:,} to {IMAGES[-1]:,} images the error falls by "
            f"{100 * large.mean():.0f}% of itself at width {WIDTHS[-1]} and by "
            f"{100 * small.mean():.0f}% at width {WIDTHS[0]} (difference {shares.told(0)} points, "
            f"{shares.seeds} seeds). {fewer}".strip()
        ),
        here=f"{100 * large.mean():.0f}% against {100 * small.mean():.0f}% of the error gone with "
        "the last fourfold of data",
        header=("error, %", *(f"{n:,} images" for n in IMAGES), "gained by the last, %"),
        rows=rows,
        series={"errors": {f"width {w}": errors[i].tolist() for i, w in enumerate(WIDTHS)}},
    )


def _last_gain(found: Grid, width: int) -> np.ndarray:
    """The share of a width's error that the last fourfold of the data takes away, by seed."""
    seeds = sorted(s for w, n, s in found if (w, n) == (width, IMAGES[-1]))
    before, after = (np.array([upstream(found[width, n, s]) for s in seeds]) for n in IMAGES[-2:])
    return (before - after) / before


def _images_needed(errors: np.ndarray) -> str:
    """Whether larger models reach a smaller one's best error with fewer images, in words."""
    best = errors[0].mean(axis=-1).min()
    reached = next((n for i, n in enumerate(IMAGES) if errors[-1, i].mean() <= best), None)
    if reached is None or reached >= IMAGES[-1]:
        return ""
    return (
        f"The best error of width {WIDTHS[0]}, {100 * best:.1f}% with up to {IMAGES[-1]:,} images, "
        f"width {WIDTHS[-1]} has with {reached:,}."
    )


def _draw_errors(conclusion: Conclusion, figure: "Figure") -> None:
    lines(
        figure.subplots(),
        IMAGES,
        conclusion.series["errors"],
        xlabel="distinct images",
        ylabel="error on test images",
        log="xy",
    )


def _fewshot(found: Grid) -> Conclusion:
    """Whether few-shot error falls faster with size than upstream error."""
    up, down = by_width(found, upstream), by_width(found, downstream)
    chance_up, chance_down = 1 - 1 / len(UPSTREAM), 1 - 1 / len(DOWNSTREAM)
    falls_up, falls_down = (one[0] / one[-1] for one in (up, down))
    ratio = difference(np.log(falls_down), np.log(falls_up))
    points = difference(down[0] - down[-1], up[0] - up[-1])
    verdict = "holds" if points.surely_more else "does not hold"
    if not points.surely_more and not points.surely_less:
        verdict = "not visible here"
    rows = [(f"width {w}", told(up[i]), told(down[i])) for i, w in enumerate(WIDTHS)]
    return Conclusion(
        verdict=verdict,
        because=(
            f"From width {WIDTHS[0]} to {WIDTHS[-1]} the upstream error falls from "
            f"{told(up[0])} to {told(up[-1])}% and the {SHOTS}-shot error on other classes from "
            f"{told(down[0])} to {told(down[-1])}%: {points.told()} points more, in ratios "
            f"{np.exp(ratio.mean):.2f} ×. Guesses have {100 * chance_up:.0f} and "
            f"{100 * chance_down:.0f}%."
        ),
        here=f"{100 * (up[0] - up[-1]).mean():.0f} points upstream, "
        f"{100 * (down[0] - down[-1]).mean():.0f} few-shot",
        header=("", "upstream error, %", f"{SHOTS}-shot error on 7, 8 and 9, %"),
        rows=rows,
        series={"errors": {"upstream": up.tolist(), f"{SHOTS} shots": down.tolist()}},
    )


def _draw_widths(conclusion: Conclusion, figure: "Figure") -> None:
    lines(
        figure.subplots(),
        WIDTHS,
        conclusion.series["errors"],
        xlabel="width",
        ylabel=conclusion.series.get("called", "error"),
        log="xy",
    )


SETTING = (
    f"ViTs of width {WIDTHS[0]} to {WIDTHS[-1]}, depth 3, on scenes of the digits 0 to 6: "
    f"{IMAGES[0]:,} to {IMAGES[-1]:,} distinct ones, each for {STEPS:,} steps of 64 images."
)

CLAIMS = (
    Claim(
        name="data_and_size",
        title="Small models stop gaining from data that large ones still use",
        statement=(
            "Representation quality is bottlenecked by the size of the model and by that of the "
            "data: small models do not gain from the largest data, large ones do; and larger "
            "models reach the same error with fewer images"
        ),
        source="Scaling Vision Transformers, arXiv 2106.04560, §2.2 and §2.3",
        published="Ti/16 gains nothing from 300M → 3B images, G/14 does",
        setting=(
            f"{SETTING} Three seeds, and {SEEDS_OF_CORNERS} of widths {WIDTHS[0]} and "
            f"{WIDTHS[-1]} on the two largest numbers of images, of which the last column is."
        ),
        refuted_by=(
            "The smallest model's error falls by as large a share as the largest one's with the "
            "last fourfold of the images, and the largest needs as many for the smallest's error."
        ),
        limits=(
            "Whether the largest model uses the last fourfold better is a difference of about as "
            "much as seeds make; three of the six were added to tell. That it needs far fewer "
            "images for the same error is plain."
        ),
        runs=_with_corners,
        conclude=_data_and_size,
        draw=_draw_errors,
    ),
    Claim(
        name="fewshot_and_size",
        title="Few-shot accuracy grows with size faster than upstream accuracy",
        statement=(
            "Larger models gain more in few-shot transfer than their upstream accuracy says"
        ),
        source="Scaling Vision Transformers, arXiv 2106.04560, §2.2; ViT-22B, arXiv 2302.05442, §4",
        published="10-shot ImageNet 84.86% for G/14",
        setting=(
            f"{SETTING} Features are judged by {SHOTS}-shot regression on 7, 8 and 9, which were "
            f"never seen, ten draws of shots; here with {IMAGES[-1]:,} images."
        ),
        refuted_by="Surely fewer points of few-shot error go with size than of upstream error.",
        limits=(
            "Seven classes teach little of three others: the few-shot error hardly falls beyond "
            "width 16. The paper's models have seen tens of thousands of classes."
        ),
        runs=on_most_images,
        conclude=_fewshot,
        draw=_draw_widths,
    ),
)
