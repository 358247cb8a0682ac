"""Claims that some settings are as good as another one: how they are judged and shown."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.claims.claim import Conclusion, Verdict
from benchmarks.claims.runs import Finished
from benchmarks.claims.spread import difference, told

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Measure = Callable[[Finished], float]
"""A share of images, of a run."""


def by_setting(
    found: Mapping[tuple[str, int], Finished], measure: Measure
) -> dict[str, list[float]]:
    """A measure of each setting's runs, in the order of their seeds.

    Args:
      found: by setting and seed.
      measure: of a run.
    """
    settings: dict[str, list[float]] = {}
    for (setting, _), run in sorted(found.items(), key=lambda one: one[0][1]):
        settings.setdefault(setting, []).append(measure(run))
    return settings


def equal(
    found: Mapping[tuple[str, int], Finished],
    measures: Mapping[str, Measure],
    *,
    than: str,
    margin: float,
    or_better: bool = False,
    more: Mapping[str, Callable[[Sequence[Finished]], str]] | None = None,
) -> Conclusion:
    """Whether every other setting is within a margin of one, by each of some measures.

    It holds where all are surely within, does not where one is surely apart, by more than the
    margin in the mean, and is not visible otherwise.

    Args:
      found: by setting and seed.
      measures: shares of images by what they are called.
      than: the setting that others are compared with.
      margin: a share of images.
      or_better: whether it is enough that the one is no worse than the others.
      more: further columns of the table, of a setting's runs.
    """
    values = {name: by_setting(found, measure) for name, measure in measures.items()}
    others = [one for one in next(iter(values.values())) if one != than]
    apart = {
        (name, one): difference(each[one], each[than])
        for name, each in values.items()
        for one in others
    }
    within, differ = [], []
    for each in apart.values():
        more_or_less = each.surely_more or (each.surely_less and not or_better)
        differ.append(more_or_less and abs(each.mean) > margin)
        within.append(each.surely_below(margin) if or_better else each.surely_within(margin))
    verdict: Verdict = "not visible here"
    if all(within):
        verdict = "holds"
    elif any(differ):
        verdict = "does not hold"
    said = "; ".join(
        f"{name}, {one} less {than}: {each.told()} points" for (name, one), each in apart.items()
    )
    rows = [
        (
            setting,
            *(told(each[setting]) for each in values.values()),
            *(tell(_runs(found, setting)) for tell in (more or {}).values()),
        )
        for setting in (than, *others)
    ]
    return Conclusion(
        verdict=verdict,
        because=f"{said}. The margin is {100 * margin:g} points.",
        here=", ".join(f"{one.told()}" for one in apart.values()) + " points",
        header=("", *(f"{name}, %" for name in measures), *(more or {})),
        rows=rows,
        series={"measures": values},
    )


def _runs(found: Mapping[tuple[str, int], Finished], setting: str) -> list[Finished]:
    return [run for (one, _), run in found.items() if one == setting]


def draw_settings(conclusion: Conclusion, figure: "Figure") -> None:
    """Every seed of every setting as a point, a panel for each measure."""
    measures: Mapping[str, Any] = conclusion.series["measures"]
    panels = figure.subplots(1, len(measures), squeeze=False)[0]
    for axes, (name, settings) in zip(panels, measures.items(), strict=True):
        for place, (setting, values) in enumerate(settings.items()):
            axes.plot([place] * len(values), [100 * one for one in values], "o", alpha=0.5)
            axes.plot([place], [100 * sum(values) / len(values)], "k_", markersize=18)
            del setting
        axes.set_xticks(range(len(settings)), list(settings), rotation=15, fontsize=8)
        axes.set_xlim(-0.5, len(settings) - 0.5)
        axes.set_title(f"{name}, %", fontsize=10)
        axes.grid(alpha=0.3, axis="y")
