"""What a claim is, and what is concluded of it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.claims.runs import Finished, Run
from distill.modules import modules_in

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Verdict = Literal["holds", "holds in part", "does not hold", "not visible here"]

SEEDS = (0, 1, 2)
"""Of each setting's runs, where nothing else is said."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conclusion:
    """What the runs say of a claim, as it is kept and shown."""

    verdict: Verdict
    because: str
    """In a sentence or two, with the figures that decide."""
    here: str
    """The figure beside the paper's, short."""
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    """Of the table: settings, with means and spreads over seeds."""
    series: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What is drawn."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim of a paper, and how it is redone."""

    name: str
    """On the command line."""
    title: str
    statement: str
    """What the paper says."""
    source: str
    published: str
    """The paper's figure, short."""
    setting: str
    """What is done here."""
    refuted_by: str
    """What would refute it."""
    runs: Callable[[Sequence[int]], Mapping[Any, Run]]
    """Of seeds: the trainings, by what tells them apart."""
    conclude: Callable[[Mapping[Any, Finished]], Conclusion]
    """Of what they came to, under the same keys."""
    draw: "Callable[[Conclusion, Figure], None]"
    takes_diverged: bool = False
    """Whether `conclude` has something to say of runs that diverged."""
    limits: str = ""
    """What this scale cannot show of it, and why."""
    broken: str = ""
    """What `broken_runs` have broken on purpose, in words."""
    broken_runs: Callable[[Sequence[int]], Mapping[Any, Run]] | None = None
    """The same trainings without the mechanism: what is concluded has to be another thing."""


def claims() -> dict[str, Claim]:
    """All of them by name: what modules beside this one call `CLAIMS`."""
    found = [
        claim
        for module in modules_in("benchmarks.claims")
        for claim in getattr(module, "CLAIMS", ())
    ]
    return {claim.name: claim for claim in found}
