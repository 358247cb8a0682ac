"""What is compared: trials of one's own, and those that come with the project beside them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from distill.analysis.human.archive import shipped_trials
from distill.analysis.human.datasets import DATASETS
from distill.analysis.human.trials import Trials, find_sets, read_trials


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collection:
    """Trials to compare, and where they come from."""

    trials: tuple[Trials, ...]
    references: tuple[str, ...]
    """Models whose trials come with the project."""
    own_humans: tuple[str, ...]
    """Sets in which people's trials are not those that come with the project."""
    notes: tuple[str, ...] = ()
    """What a reader of the figures should know."""


def collect(own: Sequence[Trials]) -> Collection:
    """Adds people to sets where there are none, and models to compare with.

    Args:
      own: trials of models, and of people if there are any.
    """
    sets = {one.dataset for one in own}
    own_humans = {one.dataset for one in own if one.is_human}
    models = {one.observer for one in own if not one.is_human}
    added = [
        one
        for one in shipped_trials()
        if one.dataset in sets
        and one.dataset not in (own_humans if one.is_human else ())
        and one.observer not in models
    ]
    references = sorted({one.observer for one in added if not one.is_human})
    notes = []
    for model in sorted(models):
        mine = {one.dataset for one in own if one.observer == model}
        if missing := [name for name in DATASETS if name not in mine]:
            notes.append(
                f"{model}: its means are over {len(mine)} of {len(DATASETS)} sets, and cannot be "
                f"compared with those over others; it has no trials with {', '.join(missing)}"
            )
    if own_humans:
        named = "all sets" if own_humans == sets else ", ".join(sorted(own_humans))
        notes.append(f"people's trials are your own, not the project's, with {named}")
    return Collection(
        trials=(*own, *added),
        references=tuple(references),
        own_humans=tuple(sorted(own_humans)),
        notes=tuple(notes),
    )


def read_collection(folder: Path) -> Collection:
    """The trials in a folder, and what they are compared with.

    Args:
      folder: as model-vs-human's raw-data: a folder for each set, in it CSV files.

    Raises:
      UserError: naming file and line, where they are not as the benchmark's.
    """
    sets, others = find_sets(folder)
    found = collect([read_trials(file) for files in sets.values() for file in files])
    skipped = tuple(f"{folder / name} is left out: it is none of the sets" for name in others)
    return dataclasses.replace(found, notes=(*found.notes, *skipped))
