"""What a run logged, as curves: each quantity in one chart, training beside held-out images."""

from collections.abc import Mapping, Sequence

from distill.report import html
from distill.report.charts import Curve, lines
from distill.train.metrics import series

Rows = Sequence[Mapping[str, float]]

_CALLED = {"train": "training", "val": "validation", "views": "training views, mixed"}
"""What the first parts of metrics' names are called."""

_TITLES = {
    "loss": "loss",
    "accuracy": "accuracy",
    "agreement": "agreement with the teacher",
    "kl": "KL divergence from the teacher",
    "mean_iou": "mean intersection over union of pixels",
    "rmse": "error of depths",
    "learning_rate": "learning rate",
    "images_per_second": "images per second",
    "data_wait": "share of the time spent waiting for data",
    "grad_norm": "norm of the gradient",
    "update_norm": "norm of the update",
    "cka": "likeness of embeddings (linear CKA)",
    "calibration_error": "calibration error",
    "cross_entropy": "cross-entropy",
    "top5_accuracy": "top-5 accuracy",
    "top5_agreement": "top-5 agreement with the teacher",
}

_FIRST = ("loss", "accuracy", "agreement", "mean_iou", "rmse")
_OF_STEPS = ("learning_rate", "images_per_second", "data_wait", "grad_norm", "update_norm")
_SHARES = ("accuracy", "agreement", "iou", "data_wait")


def quantities(rows: Rows) -> dict[str, list[str]]:
    """What was logged, and under which first parts: of `train/loss`, `loss` and `train`.

    Figures of single classes, seeds and sources are left out.
    """
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        head, slash, rest = name.partition("/")
        if slash and "/" not in rest:
            found.setdefault(rest, []).append(head)
    return found


def learning_curves(rows: Rows) -> list[str]:
    """Charts of what is learnt, the terms of the loss apart; those of less interest on demand."""
    logged = {name: heads for name, heads in quantities(rows).items() if name not in _OF_STEPS}
    first = [name for name in _FIRST if name in logged]
    first += [name for name, heads in logged.items() if "train" in heads and name not in first]
    rest = [name for name in logged if name not in first]
    found = [grid([chart(rows, name, logged[name]) for name in first])]
    if rest:
        more = grid([chart(rows, name, logged[name]) for name in rest])
        found.append(html.details("More that was measured on the way", more, key="more-curves"))
    return [one for one in found if one]


def step_curves(rows: Rows) -> str:
    """Charts of how steps went: learning rate, speed, waiting for data, norms."""
    logged = quantities(rows)
    return grid([chart(rows, name, logged[name]) for name in _OF_STEPS if name in logged])


def chart(rows: Rows, name: str, heads: Sequence[str]) -> str:
    """One quantity over the steps, a curve for each of the first parts."""
    curves = [Curve(_CALLED.get(head, head), *series(rows, f"{head}/{name}")) for head in heads]
    return lines(title(name), curves, percent=name.endswith(_SHARES))


def compared(runs: Mapping[str, Rows], metrics: Sequence[str]) -> str:
    """Charts of some metrics, such as `val/accuracy`, a curve for each run that has it."""
    found = []
    for metric in metrics:
        head, _, name = metric.partition("/")
        found.append(of_runs(runs, metric, f"{title(name)}, {_CALLED.get(head, head)}"))
    return grid(found)


def of_runs(runs: Mapping[str, Rows], metric: str, label: str) -> str:
    """A chart of one metric, a curve for each run that has it; empty if none has."""
    curves = [Curve(run, *series(rows, metric)) for run, rows in runs.items()]
    return lines(label, curves, percent=metric.endswith(_SHARES))


def title(name: str) -> str:
    """What a quantity is called."""
    text = _TITLES.get(name, name.replace("_", " "))
    return text[:1].upper() + text[1:]


def grid(charts: Sequence[str]) -> str:
    """Charts side by side, as far as there is room; those that are empty are left out."""
    drawn = [one for one in charts if one]
    return f'<div class="charts">{"".join(drawn)}</div>' if drawn else ""
