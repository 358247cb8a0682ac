"""The benchmark's figures in plain Python, from files of trials: csv, dictionaries, fractions."""

import csv
from fractions import Fraction
from pathlib import Path
from statistics import fmean

# As the files spell them.
LEFT_OUT = {
    "colour": {"cr"},
    "contrast": {"c100", "c03", "c01"},
    "high-pass": {"inf", "0.55", "0.45", "0.4"},
    "low-pass": {"0", "15", "40"},
    "phase-scrambling": {"0", "150", "180"},
    "power-equalisation": {"0"},
    "false-colour": {"true"},
    "rotation": {"0"},
    "eidolonI": {"1-10-10", "64-10-10", "128-10-10"},
    "eidolonII": {"1-3-10", "32-3-10", "64-3-10", "128-3-10"},
    "eidolonIII": {"1-0-10", "16-0-10", "32-0-10", "64-0-10", "128-0-10"},
    "uniform-noise": {"0.00", "0.60", "0.90"},
}
FIGURES = ("accuracy", "accuracy_difference", "observed_consistency", "error_consistency")


def read_set(folder: Path, keep_all: bool = False, pool: bool = False) -> dict[str, dict]:
    """By observer, condition and image whether the answer was right."""
    found: dict[str, dict] = {}
    for file in sorted(folder.glob("*.csv")):
        with file.open(newline="") as content:
            for row in csv.DictReader(content):
                condition = "0" if row["condition"] == "NaN" else row["condition"]
                if not keep_all and condition in LEFT_OUT.get(folder.name, ()):
                    continue
                *_, before, image = ("", *row["imagename"].split("_"))
                key = f"{before}_{image}" if before.startswith("n0") else image
                of_observer = found.setdefault(row["subj"], {})
                of_condition = of_observer.setdefault("" if pool else condition, {})
                of_condition[condition, key] = row["object_response"] == row["category"]
    return found


def compare(one: dict, other: dict) -> tuple[Fraction, Fraction, Fraction]:
    """Accuracy difference, observed and error consistency under one condition, exactly."""
    assert one.keys() == other.keys()
    count = len(one)
    p1, p2 = (Fraction(sum(each.values()), count) for each in (one, other))
    observed = Fraction(sum(one[key] == other[key] for key in one), count)
    expected = p1 * p2 + (1 - p1) * (1 - p2)
    kappa = Fraction(1) if observed == 1 else (observed - expected) / (1 - expected)
    return (p1 - p2) ** 2, observed, kappa


def set_figures(folder: Path, observer: str, **variant: bool) -> dict[str, float]:
    """A model's figures in a set, or those of `humans`."""
    trials = read_set(folder, **variant)
    people = sorted(name for name in trials if name.startswith("subject-"))
    if observer == "humans":
        pairs = [(a, b) for a in people for b in people if a < b]
        group = people
    else:
        pairs = [(observer, person) for person in people]
        group = [observer]
    right = [value for name in group for one in trials[name].values() for value in one.values()]
    means = []
    for a, b in pairs:
        conditions = [compare(trials[a][name], trials[b][name]) for name in trials[a]]
        means.append([sum(column) / len(conditions) for column in zip(*conditions, strict=True)])
    columns = [fmean(map(float, column)) for column in zip(*means, strict=True)]
    return dict(zip(FIGURES, [sum(right) / len(right), *columns], strict=True))
