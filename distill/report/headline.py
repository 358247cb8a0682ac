"""The figures of a run that are to be seen first: what it is worth, and what it costs."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from distill.report import html
from distill.report.examples import Examples, accuracy, on_images
from distill.train.metrics import series
from distill.train.progress import format_figure, format_seconds

_BYTES = 4
"""Of a parameter, as checkpoints hold it: float32."""

# Where a run has no accuracy, the first of these stands at the top.
_MAIN = ("mean_iou", "rmse", "text_to_image@1", "loss")


def headline(
    summary: Mapping[str, Any], rows: list[dict[str, float]], examples: Examples | None
) -> str:
    """Cards of a finished run."""
    found = [
        *_quality(summary, examples),
        *_size(summary, examples),
        *_speed(summary, examples),
        _training(summary, rows),
    ]
    return html.cards(*found)


def final(summary: Mapping[str, Any], metric: str) -> tuple[str, float] | None:
    """A metric of the test split, or where there is none of the validation split, and its name."""
    names = (f"{head}/{metric}" for head in ("test", "val"))
    return next(((name, summary[name]) for name in names if name in summary), None)


def _quality(summary: Mapping[str, Any], examples: Examples | None) -> list[str]:
    found = []
    if mine := final(summary, "accuracy"):
        name, share = mine
        beside = []
        if examples is not None and examples["together"] is not None:
            ours, theirs = accuracy(examples, examples), accuracy(examples, examples["together"])
            if ours is not None and theirs is not None:
                whole = examples["of"] == len(examples["label"])
                own = "" if whole else f"{ours:.2%}, "
                kept = f", {ours / theirs:.1%} of it kept" if theirs else ""
                beside = [f"{own}teacher {theirs:.2%}{kept}", on_images(examples)]
        found.append(html.card(f"Accuracy ({name.partition('/')[0]})", f"{share:.2%}", *beside))
    if mine := final(summary, "agreement"):
        beside = [f"KL divergence {kl[1]:.4f}" if (kl := final(summary, "kl")) else ""]
        found.append(html.card("Agreement", f"{mine[1]:.2%}", "with the teacher", *beside))
    if not found and (mine := final(summary, "cka")):
        found.append(
            html.card("Likeness of embeddings", f"{mine[1]:.3f}", "to the teacher's, linear CKA")
        )
    if not found:
        heads = [name for metric in _MAIN for name in summary if name.endswith(f"/{metric}")]
        found += [html.card(name, format_figure(name, summary[name])) for name in heads[:2]]
    return found


def _size(summary: Mapping[str, Any], examples: Examples | None) -> list[str]:
    count = summary.get("parameters")
    if not isinstance(count, int):
        return []
    teachers = examples["teachers"] if examples else {}
    theirs = sum(one["parameters"] for one in teachers.values())
    beside = [f"{human_bytes(count * _BYTES)} in float32"]
    if theirs:
        whose = "teacher" if len(teachers) == 1 else f"{len(teachers)} teachers"
        beside.append(f"{whose} {human(theirs)}, {theirs / count:.1f} × as many")
    return [html.card("Parameters", human(count), *beside)]


def _speed(summary: Mapping[str, Any], examples: Examples | None) -> list[str]:
    if examples is None:
        return []
    rate, teachers = examples["images_per_second"], examples["teachers"]
    beside = []
    if len(teachers) == 1:
        (theirs,) = (one["images_per_second"] for one in teachers.values())
        beside.append(f"teacher {human(theirs)}, {rate / theirs:.1f} × as fast")
    beside.append(f"in batches of {examples['batch_size']} on {examples['device']}")
    return [html.card("Images per second", human(rate), *beside)]


def _training(summary: Mapping[str, Any], rows: list[dict[str, float]]) -> str:
    beside = [f"{summary['steps']:,} steps"]
    if (rate := summary.get("images_per_second")) is not None:
        beside[0] += f", {human(rate)} images/s"
    _, waits = series(rows, "train/data_wait")
    if len(waits):
        beside.append(f"data wait {np.mean(waits):.0%}")
    return html.card("Training", format_seconds(summary.get("seconds", 0)), *beside)


def human(count: float) -> str:
    """A number to three digits: 12.3M."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * size:
            return f"{count / size:.3g}{letter}"
    return f"{count:.3g}"


def human_bytes(count: float) -> str:
    """Such as 1.2 MB."""
    for size, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= 0.9995 * size:
            return f"{count / size:.3g} {name}"
    return f"{count:.0f} bytes"
