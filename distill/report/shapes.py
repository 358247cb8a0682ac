"""What a search over shapes has found: as figures, as a table, as a picture and as a page."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from distill.report import html
from distill.scaling.plan import GIB
from distill.scaling.shapes import Found, Shape, ShapeSearch

Figures = dict[str, Any]

CAVEAT = (
    "Memory is the compiler's; every time is an estimate from its schedule, and nothing has run on "
    "a TPU."
)
_HEADER = "width depth MLP heads parameters GFLOPs/image GiB/chip step_s images/s MFU note".split()


def shape_figures(
    question: Mapping[str, Any],
    search: ShapeSearch,
    grid: Iterable[Shape],
    diagonal: Sequence[Shape] = (),
    base: Shape | None = None,
) -> Figures:
    """A finished search as JSON has it: bytes of a chip, and estimated seconds.

    Args:
      question: what was compiled for what, to stand first.
      search: after it has run.
      grid: the shapes that were asked about.
      diagonal: those that are `base` scaled.
      base: None if there is no diagonal.
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
        "shapes": [_compiled(one, search.budget, diagonal) for one in tried],
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
        "highest_mfu_off_diagonal": first(sorted(off, key=lambda one: one.mfu, reverse=True)),
    }


def _compiled(one: Found, budget: int, diagonal: Sequence[Shape]) -> Figures:
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
    return figures


def shape_table(figures: Figures) -> str:
    """What was compiled, largest first, and how the diagonal compares."""
    rows = [tuple(name.replace("_", " ") for name in _HEADER), *map(_row, _ordered(figures))]
    *widths, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = [
        "  ".join(
            [*(f"{cell:>{width}}" for cell, width in zip(row[:-1], widths, strict=True)), row[-1]]
        ).rstrip()
        for row in rows
    ]
    return "\n".join([_title(figures), CAVEAT, "", *lines, "", *comparison(figures)])


def _ordered(figures: Figures) -> list[Figures]:
    """What fits before what does not, the largest first."""
    return sorted(figures["shapes"], key=lambda one: not one["fits"])


def _row(one: Figures) -> tuple[str, ...]:
    estimated = one.get("estimated")
    times = ("", "", "")
    if estimated is not None:
        times = (
            f"{estimated['step_seconds']:.3f}",
            f"{estimated['images_per_second']:,.1f}",
            f"{estimated['mfu']:.1%}",
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


def _title(figures: Figures) -> str:
    return (
        f"{figures['topology']}: {figures['chips']} chip(s); patch {figures['patch_size']}, "
        f"{figures['image_size']} px, {figures['batch_per_chip']} images a chip, "
        f"{figures['optimizer']}, remat {figures['remat']}; "
        f"{figures['budget_bytes_per_chip'] / GIB:.2f} GiB a chip"
    )


def comparison(figures: Figures) -> list[str]:
    """The largest shape on the diagonal beside the best ones off it, a line each."""
    lines = [
        f"{sum(one['fits'] is verdict for one in figures['not_compiled'])} more {word}, which "
        "follows from those compiled or from the bytes of parameters and optimiser"
        for verdict, word in ((True, "fit"), (False, "do not fit"))
        if any(one["fits"] is verdict for one in figures["not_compiled"])
    ]
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
    for key, name in {
        "largest_off_diagonal": "the largest elsewhere",
        "highest_mfu_off_diagonal": "the highest MFU elsewhere",
    }.items():
        other = _find(figures, key)
        if other is not None:
            lines.append(f"{name}: {_describe(other)}{_beside(other, best)}")
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


def write_shape_report(path: Path, figures: Figures, config: str) -> Path:
    """Writes a self-contained page.

    Args:
      path: of the page.
      figures: of the search.
      config: what was compiled, as text.
    """
    header = [name.replace("_", " ") for name in _HEADER]
    content = html.page(
        "Shapes that fit",
        html.paragraph(_title(figures)),
        html.paragraph(CAVEAT),
        html.figure(draw_shapes(figures), _caption(figures)),
        html.section(
            "Compiled",
            html.table(header, [_row(one) for one in _ordered(figures)]),
            *map(html.paragraph, comparison(figures)),
        ),
        html.section("Config", html.preformatted(config)),
    )
    return html.write(path, content)


def _caption(figures: Figures) -> str:
    caption = (
        "Colour: estimated MFU; below each, estimated images/s. Empty squares fit and crosses do "
        "not; the thin ones follow from shapes that were compiled"
    )
    return caption + (
        ". Dashed: the diagonal; starred: its largest shape that fits."
        if figures["diagonal"]
        else "."
    )


def draw_shapes(figures: Figures) -> Figure:
    """Width against depth, a panel for each MLP ratio and head size."""
    everything = figures["shapes"] + figures["not_compiled"]
    panels = sorted({_panel(one) for one in everything})
    drawing = Figure(figsize=(2 + 5.5 * len(panels), 5), layout="constrained")
    grid = drawing.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)
    shares = [one["estimated"]["mfu"] for one in figures["shapes"] if one["fits"]]
    scale = dict(cmap="viridis", vmin=min(shares, default=0), vmax=max(shares, default=1))
    coloured = None
    for axes, panel in zip(grid[0], panels, strict=True):
        here = [one for one in everything if _panel(one) == panel]
        coloured = _draw_panel(axes, here, figures, scale) or coloured
        axes.set_title(f"MLP {panel[0]:g} × width, heads of {panel[1]}", fontsize=10)
        axes.set_xlabel("width")
    grid[0][0].set_ylabel("depth")
    if coloured is not None:
        bar = drawing.colorbar(coloured, ax=grid[0], label="MFU, estimated", pad=0.02)
        bar.ax.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    return drawing


def _panel(one: Figures) -> tuple[float, int]:
    # To the nearest half: MLPs are rounded to the chip's tile.
    return round(2 * one["mlp_dim"] / one["width"]) / 2, one["width"] // one["heads"]


def _draw_panel(axes, here: list[Figures], figures: Figures, scale: Mapping[str, Any]):
    def points(these):
        return [one["width"] for one in these], [one["depth"] for one in these]

    compiled = [one for one in here if "bytes_per_chip" in one]
    implied = [one for one in here if "bytes_per_chip" not in one]
    coloured = None
    if fitting := [one for one in compiled if one["fits"]]:
        shares = [one["estimated"]["mfu"] for one in fitting]
        coloured = axes.scatter(*points(fitting), s=260, marker="s", c=shares, zorder=3, **scale)
    for one in fitting:
        speed = f"{one['estimated']['images_per_second']:,.3g}"
        axes.annotate(
            speed, (one["width"], one["depth"]), (0, -11), textcoords="offset points",
            ha="center", va="top", fontsize=7, color="#3b4653",
        )  # fmt: skip
    axes.scatter(
        *points([one for one in implied if one["fits"]]),
        s=200, marker="s", facecolors="none", edgecolors="#9aa7b4", linewidths=0.8,
    )  # fmt: skip
    for these, style in ((compiled, dict(linewidths=2.2)), (implied, dict(linewidths=0.8))):
        crosses = [one for one in these if one["fits"] is False]
        axes.scatter(*points(crosses), s=70, marker="x", color="#b3402a", zorder=3, **style)
    if figures["diagonal"] is not None and any(one["on_diagonal"] for one in here):
        _draw_diagonal(axes, figures, max(one["width"] for one in here))
    axes.margins(0.12)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return coloured


def _draw_diagonal(axes, figures: Figures, widest: int) -> None:
    slope = figures["diagonal"]["depth"] / figures["diagonal"]["width"]
    axes.plot([0, widest], [0, slope * widest], "--", color="#5a6672", linewidth=1, zorder=1)
    if best := figures["largest_on_diagonal"]:
        axes.plot(best["width"], best["depth"], "*", color="white", markersize=9, zorder=4)
