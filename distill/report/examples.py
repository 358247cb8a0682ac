"""What a model says of held-out images, as sections of its page; see `distill.evaluate.gallery`."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from distill.analysis.calibration import equal_width
from distill.analysis.intervals import wilson_interval
from distill.errors import UserError
from distill.evaluate.gallery import FILE
from distill.json_files import read_json
from distill.parallel.printed import say
from distill.report import charts, html, maps
from distill.report.drawing import shortened

Examples = Mapping[str, Any]
"""The content of a file."""

_MOST_CELLS = 25
"""Classes of a confusion matrix that is drawn; of more, the pairs that are confused most."""
_AT_ONCE = 12
"""Pictures that are shown without being asked for."""
_MOST_BARS = 40
_MOST_PAIRS = 30

_NEEDED = {"split", "of", "labelled", "name", "label", "answers", "probabilities", "teachers"}
_NEEDED |= {"together", "kl", "classes", "pictures", "map", "mapped", "images_per_second"}


def read_examples(workdir: Path) -> Examples | None:
    """What is kept of a run; None of one that has nothing, or nothing that can be read."""
    file = workdir / FILE
    if not file.exists():
        return None
    try:
        found = read_json(file)
    except UserError as error:
        say(f"the page is without examples: {error}")
        return None
    if not isinstance(found, dict) or not found.keys() >= _NEEDED:
        say(f"the page is without examples: {file} is not as this version writes it")
        return None
    return found


def example_sections(found: Examples) -> list[html.Section]:
    """The sections that what is kept allows."""
    drawn = [make(found) for make in _SECTIONS]
    return [one for one in drawn if one is not None]


def accuracy(found: Examples, answers: Mapping[str, Any] | None) -> float | None:
    """The share of images with a label that are answered rightly; None where there is none.

    Args:
      found: the file's content.
      answers: whose, such as the content itself or its `together`.
    """
    if answers is None or not answers["answers"] or not found["labelled"]:
        return None
    label, first = np.array(found["label"]), _first(answers)
    known = label >= 0
    return float(np.mean(first[known] == label[known])) if known.any() else None


def on_images(found: Examples) -> str:
    """On which images, in words."""
    count = len(found["label"])
    part = "all" if count == found["of"] else f"{count:,} of"
    some = f", among their {found['among']} classes" if found.get("among") else ""
    return f"{part} {found['of']:,} {found['split']} images{some}"


def _first(answers: Mapping[str, Any]) -> np.ndarray:
    return np.array([one[0] for one in answers["answers"]])


def _sure(answers: Mapping[str, Any]) -> np.ndarray:
    return np.array([one[0] for one in answers["probabilities"]], float)


def _name(found: Examples, number: int) -> str:
    return found["classes"].get(str(number), str(number))


def _samples(found: Examples) -> html.Section | None:
    if not found["answers"]:
        return None
    text = f"{len(found['samples'])} at equal distances of {on_images(found)}."
    return html.section("Examples", html.paragraph(text), _pictures(found, found["samples"]))


def _mistakes(found: Examples) -> html.Section | None:
    if not found["answers"] or not found["labelled"]:
        return None
    heading = "Most confident mistakes"
    if not found["mistakes"]:
        return html.section(heading, html.paragraph(f"None on {on_images(found)}."))
    text = f"The wrong answers on {on_images(found)} of which the model is surest."
    return html.section(heading, html.paragraph(text), _pictures(found, found["mistakes"]))


def _differ(found: Examples) -> html.Section | None:
    if not found["differ"]:
        return None
    text = (
        "The images on which the KL divergence of the student's probabilities from the teacher's "
        f"is largest, in nats. Its mean on {on_images(found)} is {np.mean(found['kl']):.4f}."
    )
    return html.section(
        "Where student and teacher differ most",
        html.paragraph(text),
        _pictures(found, found["differ"], divergence=True),
    )


def _pictures(found: Examples, places: Sequence[int], *, divergence: bool = False) -> str:
    drawn = [
        f'<ul class="pictures">{"".join(_picture(found, n, divergence) for n in some)}</ul>'
        for some in (places[:_AT_ONCE], places[_AT_ONCE:])
        if some
    ]
    more = [html.details(f"{len(places) - _AT_ONCE} more", one) for one in drawn[1:]]
    return "".join([*drawn[:1], *more])


def _picture(found: Examples, place: int, divergence: bool) -> str:
    label, lines = found["label"][place], []
    known = found["labelled"] and label >= 0
    if known:
        lines.append(f'<span class="line">{escape(_name(found, label))}</span>')
    said = []
    for whose, answers in _speakers(found).items():
        number, share = answers["answers"][place][0], answers["probabilities"][place][0]
        wrong = known and number != label
        mark = "" if not known else "✗ " if wrong else "✓ "
        text = f"{whose} {mark}{share:.0%} {_name(found, number)}"
        kind = "line bad" if wrong else "line"
        lines.append(f'<span class="{kind}">{escape(text)}</span>')
        said.append(f"{whose} says {_name(found, number)}")
    if divergence:
        lines.append(f'<span class="line">KL {found["kl"][place]:.3f}</span>')
    name = found["name"][place]
    lines.append(f'<small class="line">{escape(shortened(name, 40))}</small>')
    truth = f", is {_name(found, label)}" if known else ""
    url = found["pictures"].get(str(place), "")
    small = ' class="small"' if url.startswith("data:image/png") else ""
    alt = escape(f"{name}{truth}; {', '.join(said)}")
    return f'<li><img{small} src="{escape(url)}" alt="{alt}">{"".join(lines)}</li>'


def _speakers(found: Examples) -> dict[str, Mapping[str, Any]]:
    """Whose answers there are, by what they are called."""
    if found["together"] is None:
        return {"model": found}
    return {"student": found, "teacher": found["together"]}


def _confusion(found: Examples) -> html.Section | None:
    if accuracy(found, found) is None:
        return None
    label, first = np.array(found["label"]), _first(found)
    label, first = label[label >= 0], first[label >= 0]
    numbers = np.union1d(label, first)
    counts = np.zeros((len(numbers), len(numbers)), int)
    np.add.at(counts, (np.searchsorted(numbers, label), np.searchsorted(numbers, first)), 1)
    names = [_name(found, int(one)) for one in numbers]
    heading = "Which classes are taken for which"
    if len(numbers) <= _MOST_CELLS:
        drawn = maps.heat_map(
            "Confusion matrix",
            counts,
            names,
            rows="true",
            columns="answered",
            note=f"A row for each true class, a column for each answer; {on_images(found)}.",
        )
        return html.section(heading, drawn)
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_PAIRS]
    pairs = [np.unravel_index(one, wrong.shape) for one in order]
    rows = [
        (names[a], names[b], f"{wrong[a, b]:,}", f"{counts[a].sum():,}")
        for a, b in pairs
        if wrong[a, b]
    ]
    text = f"The {len(rows)} pairs that are confused most, on {on_images(found)}."
    header = ("true class", "answered", "times", "images of the class")
    return html.section(heading, html.paragraph(text), html.wide_table(header, rows))


def _by_class(found: Examples) -> html.Section | None:
    if accuracy(found, found) is None:
        return None
    label, right = np.array(found["label"]), _first(found) == np.array(found["label"])
    rows = []
    for number in np.unique(label[label >= 0]).tolist():
        mine = right[label == number]
        low, high = wilson_interval(int(mine.sum()), len(mine))
        rows.append(
            (_name(found, number), float(mine.mean()), len(mine), f"{low:.3f} to {high:.3f}")
        )
    rows.sort(key=lambda row: row[1])
    shown, note = rows, f"Sorted; {on_images(found)}."
    if len(rows) > _MOST_BARS:
        shown, note = rows[:_MOST_BARS], f"The lowest {_MOST_BARS} of {len(rows)} classes."
    # Two classes may have one name.
    labels = [name for name, *_ in shown]
    unique = {
        name if labels.count(name) == 1 else f"{name} ({n})": share
        for n, (name, share, *_) in enumerate(shown)
    }
    table = [(name, f"{share:.4f}", f"{count:,}", within) for name, share, count, within in rows]
    return html.section(
        "Accuracy of each class",
        charts.bars("Accuracy by class", unique, note=note),
        html.details(
            "Numbers, with 95% intervals",
            html.wide_table(("class", "accuracy", "images", "interval"), table),
        ),
    )


def _calibration(found: Examples) -> html.Section | None:
    if accuracy(found, found) is None:
        return None
    label = np.array(found["label"])
    known = label >= 0
    curves, errors = [], []
    for whose, answers in _speakers(found).items():
        right = (_first(answers) == label)[known].astype(float)
        curve = equal_width(np.clip(_sure(answers)[known], 0, 1), right, convention="top_label")
        bins = curve.as_json()
        total = sum(one["count"] for one in bins)
        error = curve.error()
        errors.append(f"{whose} {error:.4f}" if error is not None else "")
        curves.append(
            charts.Curve(
                whose,
                [one["mean_probability"] for one in bins],
                [one["mean_outcome"] for one in bins],
                [one["count"] / total for one in bins],
            )
        )
    drawn = charts.lines(
        "How often answers of a confidence are right",
        curves,
        x_label="confidence",
        x_limits=(0.0, 1.0),
        y_limits=(0.0, 1.0),
        percent=True,
        diagonal=True,
        note="On the dashed line, confidence is what it says; a disk's area is the number of "
        f"answers. Expected calibration error: {', '.join(errors)}.",
    )
    return html.section("Calibration", drawn)


def _map(found: Examples) -> html.Section | None:
    places, label = found["mapped"], np.array(found["label"])
    if len(places) < 3:
        return None
    mine = label[places]
    shown = sorted({int(one) for one in mine if one >= 0}) if found["labelled"] else []
    number = {one: place for place, one in enumerate(shown)}
    own = "student" if found["teachers"] else "model"
    panels = {own: np.array(found["map"], float)}
    for name, one in found["teachers"].items():
        panels[name if len(found["teachers"]) > 1 else "teacher"] = np.array(one["map"], float)
    panels = {name: points for name, points in panels.items() if np.isfinite(points).all()}
    if not panels:
        return None
    labels = []
    for place, one in zip(places, mine.tolist(), strict=True):
        truth = f" · {shortened(_name(found, one), 24)}" if one in number else ""
        labels.append(shortened(found["name"][place], 36) + truth)
    turned = " Teachers' maps and the student's are turned onto each other." * (len(panels) > 1)
    drawn = maps.scatter(
        "Where images lie in the embeddings",
        panels,
        [number.get(one, -1) for one in mine.tolist()],
        [_name(found, one) for one in shown],
        labels,
        note=f"{len(places):,} images by the two directions in which their embeddings vary most "
        f"(principal components), coloured by class.{turned}",
    )
    return html.section("Map of the embeddings", drawn)


_SECTIONS: tuple[Callable[[Examples], html.Section | None], ...] = (
    _samples,
    _mistakes,
    _differ,
    _confusion,
    _by_class,
    _calibration,
    _map,
)
