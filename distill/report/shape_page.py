"""What a search over shapes has found: as a picture and as a page."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from distill.estimate.shapes import Shape
from distill.report import html
from distill.report.shapes import CAVEAT, Figures, comparison, table_rows, title


def write_shape_report(path: Path, figures: Figures, config: str) -> Path:
    """Writes a self-contained page.

    Args:
      path: of the page.
      figures: of the search.
      config: what was compiled, as text.
    """
    header, *rows = table_rows(figures)
    content = html.page(
        "Shapes that fit",
        html.paragraph(title(figures)),
        html.paragraph(CAVEAT),
        html.figure(draw_shapes(figures), _caption(figures)),
        html.section(
            "Compiled",
            html.table(header, rows),
            *map(html.paragraph, comparison(figures)),
        ),
        html.section("Config", html.preformatted(config)),
    )
    return html.write(path, content)


def _caption(figures: Figures) -> str:
    caption = "Colour: estimated MFU; the number beside: estimated images/s"
    if figures["diagonal"] is None:
        return f"{caption}."
    base = Shape(**figures["diagonal"])
    return f"{caption}. Dashed: {base} scaled; the star is the largest of these that fits."


def draw_shapes(figures: Figures) -> Figure:
    """Width against depth, a panel for each MLP ratio and head size."""
    everything = figures["shapes"] + figures["not_compiled"]
    panels = sorted({_panel(one) for one in everything})
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    drawing = Figure(figsize=(2.5 + 5.5 * columns, 1 + 4.5 * rows), layout="constrained")
    grid = drawing.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    shares = [one["estimated"]["mfu"] for one in figures["shapes"] if one["fits"]]
    colours = ScalarMappable(Normalize(min(shares, default=0), max(shares, default=1)), "viridis")
    for axes, panel in zip(grid, panels, strict=False):
        _draw_panel(axes, [one for one in everything if _panel(one) == panel], colours)
        if figures["diagonal"] is not None:
            _draw_diagonal(axes, panel, figures)
        axes.set_title(f"MLP {panel[0]:g} × width, heads of {panel[1]}", fontsize=10)
        axes.set_xlabel("width")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylabel("depth")
        axes.tick_params(labelbottom=True, labelleft=True)
    for axes in grid[len(panels) :]:
        axes.remove()
    asked = [one for one in everything if _is_asked(one)]
    grid[0].set_xlim(_limits([one["width"] for one in asked]))
    grid[0].set_ylim(_limits([one["depth"] for one in asked]))
    bar = drawing.colorbar(colours, ax=grid[: len(panels)], label="MFU, estimated", pad=0.02)
    bar.ax.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    drawing.legend(handles=_legend(figures), loc="outside lower center", ncols=6, frameon=False)
    return drawing


def _panel(one: Figures) -> tuple[float, int]:
    # To the nearest half: MLPs are rounded to the chip's tile.
    return round(2 * one["mlp_dim"] / one["width"]) / 2, one["width"] // one["heads"]


def _is_asked(one: Figures) -> bool:
    """Leaves out the stretches of the diagonal where nothing was compiled."""
    return "bytes_per_chip" in one or not one["on_diagonal"]


def _limits(sizes: list[int]) -> tuple[float, float]:
    margin = 0.12 * (max(sizes) - min(sizes)) or 0.12 * max(sizes)
    return min(sizes) - margin, max(sizes) + 1.5 * margin


_SQUARE: dict[str, Any] = dict(marker="s", markersize=13, linestyle="none", zorder=3)
_EMPTY: dict[str, Any] = _SQUARE | dict(
    markerfacecolor="none", markeredgecolor="#9aa7b4", markeredgewidth=0.8
)
_CROSS: dict[str, Any] = dict(marker="x", markersize=9, linestyle="none", color="#b3402a", zorder=3)
_LINE: dict[str, Any] = dict(color="#5a6672", linewidth=1, zorder=1)
_STAR: dict[str, Any] = dict(marker="*", markersize=9, linestyle="none", color="white", zorder=4)
_STAR |= dict(markeredgecolor="#1d2733", markeredgewidth=0.5)


def _draw_panel(axes: Axes, here: list[Figures], colours: ScalarMappable) -> None:
    for one in filter(_is_asked, here):
        compiled, place = "bytes_per_chip" in one, (one["width"], one["depth"])
        if not one["fits"]:
            axes.plot(*place, **_CROSS, markeredgewidth=2.2 if compiled else 0.8)
        elif not compiled:
            axes.plot(*place, **_EMPTY)
        else:
            estimated = one["estimated"]
            axes.plot(*place, **_SQUARE, color=colours.to_rgba(estimated["mfu"]))
            speed = f"{estimated['images_per_second']:,.3g}"
            axes.annotate(
                speed, place, (10, 0), textcoords="offset points", va="center", fontsize=8
            )


def _draw_diagonal(axes: Axes, panel: tuple[float, int], figures: Figures) -> None:
    base, best = figures["diagonal"], figures["largest_on_diagonal"]
    if _panel(base) == panel:
        axes.axline((0, 0), slope=base["depth"] / base["width"], linestyle="--", **_LINE)
        if best is not None:
            axes.plot(best["width"], best["depth"], **_STAR)


def _legend(figures: Figures) -> list[Line2D]:
    def entry(label, **style):
        return Line2D([], [], label=label, **style)

    entries = [
        entry("fits, with images/s", **_SQUARE, color="#3b6e8f"),
        entry("fits (inferred)", **_EMPTY),
        entry("does not fit", **_CROSS, markeredgewidth=2.2),
        entry("does not fit (inferred)", **_CROSS, markeredgewidth=0.8),
    ]
    if figures["diagonal"] is not None:
        entries.append(entry("diagonal", linestyle="--", **_LINE))
    if figures["largest_on_diagonal"] is not None:
        entries.append(entry("its largest that fits", **_STAR))
    return entries
