"""What is left of one model's shares in others that were evaluated alike."""

from collections.abc import Mapping, Sequence
from typing import Any

from distill.analysis.intervals import ratio_interval, wilson_interval

Models = Sequence[Mapping[str, Any]]
"""Each with its `name` and its `evaluations`: lines by name, or None."""


def shares(line: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Of each metric of a line that is a share of images: how many of how many."""
    counts = line.get("details", {}).get("counts", {})
    return {f"{line['name']}/{figure}": (one, of) for figure, (one, of) in counts.items()}


def _figures(line: Mapping[str, Any]) -> list[str]:
    """The metrics of a line, no shares of images, of which a ratio says something."""
    return [f"{line['name']}/{one}" for one in line.get("details", {}).get("figures", ())]


def interval(correct: int, total: int) -> list[float]:
    """Wilson's, of a share."""
    return [*wilson_interval(correct, total)]


def retained(models: Models) -> dict[str, dict[str, Any]]:
    """Of each share, what part of the first model's each other one reaches.

    There is none of a share that is 0 of the first, or where images are others. The interval is
    that of independent images; as models saw the same ones, it is wider than it need be. Figures
    that are no shares of images, such as a mean IoU, have none.
    """
    first, *others = models
    found: dict[str, dict[str, Any]] = {}
    for other in others:
        for theirs, mine in _pairs(first, other).values():
            if _difference(theirs, mine):
                continue
            for figure, share in shares(mine).items():
                whole = shares(theirs).get(figure, (0, 0))
                if whole[0]:
                    ratio = share[0] / share[1] * whole[1] / whole[0]
                    ends = [*ratio_interval(share, whole)]
                    found.setdefault(figure, {})[other["name"]] = {"ratio": ratio, "interval": ends}
            for figure in _figures(mine):
                whole = theirs["metrics"].get(figure)
                if whole and figure in mine["metrics"]:
                    ratio = mine["metrics"][figure] / whole
                    found.setdefault(figure, {})[other["name"]] = {"ratio": ratio, "interval": None}
    return found


def other_images(models: Models) -> dict[str, dict[str, str]]:
    """Of each evaluation, the models that saw other images than the first one, and which."""
    first, *others = models
    found: dict[str, dict[str, str]] = {}
    for other in others:
        for name, (theirs, mine) in _pairs(first, other).items():
            if said := _difference(theirs, mine):
                found.setdefault(name, {})[other["name"]] = said
    return found


def images_of(line: Mapping[str, Any]) -> str:
    """What a line is of, as far as is recorded."""
    said = [f"{one['images']:,} of {one['source']} {one['split']}" for one in recorded_images(line)]
    if said:
        return ", ".join(said)
    totals = sorted({f"{of:,}" for _, of in shares(line).values()})
    return f"{' or '.join(totals)} images" if totals else "images that nothing is said of"


def recorded_images(line: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The images as `describe_images` has them; none where other programs say otherwise."""
    said = line.get("data")
    described = [one for one in said if isinstance(one, dict)] if isinstance(said, list) else []
    return [one for one in described if {"source", "split", "images"} <= one.keys()]


def _pairs(
    first: Mapping[str, Any], other: Mapping[str, Any]
) -> dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """The lines of the first and of another model, by evaluation, where both have one."""
    return {
        name: (theirs, mine)
        for name, mine in other["evaluations"].items()
        if mine and (theirs := first["evaluations"].get(name))
    }


def _difference(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> str | None:
    """What two lines are of, if not of the same images.

    A fingerprint also depends on how classes are numbered, so that it may differ between models
    that saw the same images. Of a file that does not say where its images are from, only their
    number is known.
    """
    ours, others = recorded_images(mine), recorded_images(theirs)
    if ours and others:
        same = len(ours) == len(others) and all(map(_same, ours, others))
    else:
        whole = shares(theirs)
        same = all(whole[name][1] == of for name, (_, of) in shares(mine).items() if name in whole)
    return None if same else f"{images_of(mine)}, not {images_of(theirs)}"


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if one.get("fingerprint") is not None and one["fingerprint"] == other.get("fingerprint"):
        return True
    return all(one[key] == other[key] for key in ("source", "split", "images"))
