"""What a search over shapes has found: as figures, as a table and in words."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from distill.estimate.plan import GIB
from distill.estimate.shapes import Found, Shape, ShapeSearch
from distill.report.plan import digits

Figures = dict[str, Any]

CAVEAT = (
    "Memory is the compiler's; every time is an estimate from its schedule, and nothing has run on "
    "a TPU."
)
_SIZES = ("width", "depth", "MLP", "heads", "parameters", "GFLOPs/image", "GiB/chip")
_TIMES = ("step s", "images/s", "MFU")
_PRICE = "usd_per_billion_images"


def shape_figures(
    question: Mapping[str, Any],
    search: ShapeSearch,
    grid: Iterable[Shape],
    diagonal: Sequence[Shape] = (),
    base: Shape | None = None,
    price: float | None = None,
) -> Figures:
    """A finished search as JSON has it: bytes of a chip, and estimated seconds.

    Args:
      question: what was compiled for what, to stand first.
      search: after it has run.
      grid: the shapes that were asked about.
      diagonal: those that are `base` scaled.
      base: None if there is no diagonal.
      price: US dollars of a chip for an hour.
    """
    tried = sorted(search.found.values(), key=lambda one: one.parameters, reverse=True)
    untried = sorted({*grid, *diagonal} - search.found.keys())
    fitting = [one for one in tried if one.fits(search.budget)]
    on = [one for one in fitting if one.shape in diagonal]
    off = [one for one in fitting if one.shape not in diagonal]

    def first(these: list[Found]) -> Figures | None:
        return dataclasses.asdict(these[0].shape) if these else None

    return {
        **question,
        "budget_bytes_per_chip": search.budget,
        **({} if price is None else {"usd_per_chip_hour": price}),
        "shapes": [
            _compiled(one, search.budget, diagonal, price and price * question["chips"])
            for one in tried
        ],
        "not_compiled": [
            {
                **dataclasses.asdict(shape),
                "fits": search.verdict(shape),
                "on_diagonal": shape in diagonal,
            }
            for shape in untried
        ],
        "diagonal": None if base is None else dataclasses.asdict(base),
        "largest_on_diagonal": first(on),
        "largest_off_diagonal": first(off),
        "highest_mfu_off_diagonal": first(
            sorted(off, key=lambda one: one.mfu or 0.0, reverse=True)
        ),
    }


def _compiled(
    one: Found, budget: int, diagonal: Sequence[Shape], slice_price: float | None
) -> Figures:
    figures = {
        **dataclasses.asdict(one.shape),
        "fits": one.fits(budget),
        "on_diagonal": one.shape in diagonal,
        "parameters": one.parameters,
        "flops_per_image": one.flops,
        "bytes_per_chip": one.bytes_per_chip,
        "compile_seconds": round(one.compile_seconds, 1),
    }
    if one.step_seconds is not None:
        figures["estimated"] = {
            "step_seconds": one.step_seconds,
            "images_per_second": one.images_per_second,
            "mfu": one.mfu,
            "kernels_without_estimate": one.unestimated_kernels,
        }
        if slice_price is not None and one.images_per_second:
            hours = 1e9 / one.images_per_second / 3600
            figures["estimated"][_PRICE] = slice_price * hours
    return figures


def shape_table(figures: Figures) -> str:
    """What was compiled, largest first, and how the diagonal compares."""
    rows = table_rows(figures)
    *widths, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = [
        "  ".join(
            [*(f"{cell:>{width}}" for cell, width in zip(row[:-1], widths, strict=True)), row[-1]]
        ).rstrip()
        for row in rows
    ]
    return "\n".join([title(figures), CAVEAT, "", *lines, "", *comparison(figures)])


def ordered(figures: Figures) -> list[Figures]:
    """What fits before what does not, the largest first."""
    return sorted(figures["shapes"], key=lambda one: not one["fits"])


def table_rows(figures: Figures) -> list[tuple[str, ...]]:
    """The header, and a row of text for each compiled shape; the last column is of notes."""
    priced = "usd_per_chip_hour" in figures
    header = (*_SIZES, *_TIMES, *(["USD/10⁹ images"] if priced else []), "")
    return [header, *(_row(one, priced) for one in ordered(figures))]


def _row(one: Figures, priced: bool) -> tuple[str, ...]:
    estimated = one.get("estimated")
    times = ("",) * (len(_TIMES) + priced)
    if estimated is not None:
        times = (
            digits(estimated["step_seconds"], 3),
            f"{estimated['images_per_second']:,.1f}",
            f"{estimated['mfu']:.1%}",
            *([f"{estimated[_PRICE]:,.0f}"] if priced else []),
        )
    notes = ["diagonal"] * one["on_diagonal"] + ["does not fit"] * (not one["fits"])
    return (
        *(f"{one[name]}" for name in ("width", "depth", "mlp_dim", "heads")),
        f"{one['parameters'] / 1e6:,.1f} M",
        f"{one['flops_per_image'] / 1e9:,.1f}",
        f"{one['bytes_per_chip'] / GIB:.2f}",
        *times,
        ", ".join(notes),
    )


def title(figures: Figures) -> str:
    """What was compiled for what, and the budget."""
    return (
        f"{figures['topology']}: {figures['chips']} chip{'s' * (figures['chips'] != 1)}; "
        f"patch {figures['patch_size']}, {figures['image_size']} px, "
        f"{figures['batch_per_chip']} images a chip, "
        f"{figures['optimizer']}, remat {figures['remat']}; "
        f"{figures['budget_bytes_per_chip'] / GIB:.2f} GiB a chip"
    )


def comparison(figures: Figures) -> list[str]:
    """The largest shape on the diagonal beside the best ones off it, a line each."""
    verdicts = [one["fits"] for one in figures["not_compiled"]]
    lines = []
    if verdicts:
        fitting = sum(verdicts)
        lines.append(f"inferred, not compiled: {fitting} fit, {len(verdicts) - fitting} do not")
    if any(one.get("estimated", {}).get("kernels_without_estimate") for one in figures["shapes"]):
        lines.append(
            "kernels (splash attention) have no estimate: only their memory traffic is counted, "
            "and steps take longer; config.model.attention=plain does without"
        )
    best = _find(figures, "largest_on_diagonal")
    if figures["diagonal"] is not None:
        base = Shape(**figures["diagonal"])
        said = _describe(best) if best else "none"
        lines.append(f"the largest that fits of the diagonal through {base}: {said}")
    names = {"largest_off_diagonal": "the largest", "highest_mfu_off_diagonal": "the highest MFU"}
    if figures["largest_off_diagonal"] == figures["highest_mfu_off_diagonal"]:
        names = {"largest_off_diagonal": "the largest and the highest MFU"}
    for key, name in names.items():
        if other := _find(figures, key):
            lines.append(f"{name} elsewhere: {_describe(other)}{_beside(other, best)}")
    return lines


def _find(figures: Figures, key: str) -> Figures | None:
    if figures[key] is None:
        return None
    return next(one for one in figures["shapes"] if _shape(one) == Shape(**figures[key]))


def _shape(one: Figures) -> Shape:
    return Shape(*(one[field.name] for field in dataclasses.fields(Shape)))


def _describe(one: Figures) -> str:
    estimated = one["estimated"]
    return (
        f"{_shape(one)}, {one['parameters'] / 1e6:,.0f} M parameters, "
        f"{estimated['images_per_second']:,.1f} images/s, MFU {estimated['mfu']:.1%}"
    )


def _beside(one: Figures, best: Figures | None) -> str:
    """Size and speed relative to the diagonal's largest."""
    if best is None:
        return ""
    size = one["parameters"] / best["parameters"]
    speed = one["estimated"]["images_per_second"] / best["estimated"]["images_per_second"]
    return f" ({size:.2f} times the diagonal's parameters, {speed:.2f} times its images/s)"
