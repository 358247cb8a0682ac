"""A finished model evaluated: what is asked for, printed as tables and kept line by line."""

import dataclasses
import datetime
import json
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from distill import __version__
from distill.analysis.prediction_files import read_predictions
from distill.config import to_dict
from distill.errors import UserError
from distill.evaluate.evaluation import EvaluationConfig
from distill.evaluate.predicted import PredictionsConfig, named
from distill.evaluate.split import SplitConfig
from distill.parallel import distributed
from distill.runs.evaluations import say_remarks
from distill.runs.subject import OpenedSubject, open_subject
from distill.runs.weights import WeightsConfig
from distill.train.progress import format_figure, say

FILE = "evaluations.jsonl"
"""Of a workdir: an object for each evaluation of the finished model. Of two of one `name` and
`config` at one checkpoint, the later counts."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What to evaluate."""

    evals: dict[str, EvaluationConfig] = dataclasses.field(default_factory=dict)
    """By the name that their metrics begin with; none measures the run's test split."""


def evaluate(
    model: Path | WeightsConfig,
    evals: Mapping[str, EvaluationConfig] | None = None,
    *,
    batch_size: int = 256,
    best: bool = False,
    data_dir: str | None = None,
    output: Path | None = None,
) -> dict[str, float]:
    """Evaluates a model; returns, prints and keeps the metrics.

    Args:
      model: the workdir of a run, whose newest checkpoint is taken, or published weights.
      evals: by name; one without a name is called as the run's test split, and where there are
        none, that is measured.
      batch_size: over all devices.
      best: whether to take the run's best weights instead of its last.
      data_dir: see `DataConfig`; None takes the run's.
      output: the file that a line is added to for each evaluation; None takes that of the workdir.

    Raises:
      UserError: if the model cannot be opened, or not be evaluated as is asked.
    """
    evals = evals or {"": SplitConfig()}
    if isinstance(model, WeightsConfig) and not all(one.names_data for one in evals.values()):
        raise UserError(
            "published weights come without data; give --source, or config.evals.NAME.source"
        )
    opened = open_subject(
        model,
        batch_size=batch_size,
        best=best,
        data_dir=data_dir,
        with_teachers=any(one.needs_teachers for one in evals.values()),
    )
    if output is None and not isinstance(model, WeightsConfig):
        output = model / FILE
    weights = "best" if best else "last"
    found = {}
    for name, config in evals.items():
        found |= _evaluate(name, config, opened, weights, output)
    return found


def _evaluate(
    name: str, config: EvaluationConfig, opened: OpenedSubject, weights: str, output: Path | None
) -> dict[str, float]:
    subject = opened.subject
    name = name or subject.split or ""
    evaluation = config.build(name, subject) if name else None
    if evaluation is None:
        raise UserError(
            f"{subject.place} has nothing for the evaluation {name or 'of a split'!r}: the run has "
            "neither test nor validation split, or nothing to compare with; name a split "
            "(--split, config.evals.NAME.split)"
        )
    say_remarks(name, evaluation)
    began = time.perf_counter()
    metrics = evaluation(opened.params, opened.frozen)
    seconds = time.perf_counter() - began
    model = {"model": subject.place, "step": opened.step, "weights": weights}
    about = model | evaluation.about()
    _tell(name, config, about, evaluation.seen(), metrics, seconds, output)
    return metrics


def evaluate_predictions(
    file: Path, evals: Mapping[str, EvaluationConfig], *, output: Path | None = None
) -> dict[str, float]:
    """Evaluates what a file says that a model predicted; returns, prints and keeps the metrics.

    Args:
      file: .npz or .parquet, see `distill.analysis.prediction_files`.
      evals: by name.
      output: the file that a line is added to for each evaluation; None keeps nothing.

    Raises:
      UserError: if the file holds no predictions, or an evaluation needs more.
    """
    for name, config in evals.items():
        if not isinstance(config, PredictionsConfig):
            kind = to_dict(config)["kind"]
            raise UserError(
                f"the evaluation {name!r} is of kind {kind}, which needs a model: give --workdir "
                "or --weights (docs/predictions.md has those for which predictions are enough)"
            )
    predictions = read_predictions(file)
    found = {}
    for name, config in evals.items():
        began = time.perf_counter()
        measured = config.measure(predictions)
        figures = {k: v for k, v in named(name, measured).items() if v is not None}
        seconds = time.perf_counter() - began
        lines = [f"{len(predictions):,} images of {file}", *measured.lines]
        about = {"predictions": str(file), **predictions.about, "details": dict(measured.details)}
        _tell(name, config, about, lines, figures, seconds, output)
        found |= figures
    return found


def _tell(
    name: str,
    config: EvaluationConfig,
    about: Mapping[str, Any],
    seen: Sequence[str],
    metrics: dict[str, float],
    seconds: float,
    output: Path | None,
) -> None:
    """Prints what was found, and keeps it."""
    if not distributed.is_primary():
        return
    for line in (*seen, *table(metrics)):
        print(line)
    if output is not None:
        line = _line(name, config, about)
        _keep(output, line | {"metrics": metrics, "seconds": round(seconds, 3)})


def _line(name: str, config: EvaluationConfig, about: Mapping[str, Any]) -> dict[str, Any]:
    """What was evaluated, when and by what, as JSON can hold it."""
    return {
        "name": name,
        "config": to_dict(config),
        **about,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {
            "distill": __version__,
            "jax": jax.__version__,
            "flax": metadata.version("flax"),
        },
    }


def _keep(file: Path, line: Mapping[str, Any]) -> None:
    """Adds a line to a file; one that cannot be written is said."""
    try:
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
    except OSError as error:
        say(f"{file} cannot be written, and keeps nothing of this: {error.strerror}")


def table(metrics: Mapping[str, float]) -> list[str]:
    """A line for each metric; of those drawn with several seeds, the mean and each seed's."""
    rows: dict[str, dict[str, str]] = {}
    for name, value in metrics.items():
        whole, _, seed = name.partition("/seed")
        column = f"seed {seed}" if seed else ""
        rows.setdefault(whole, {})[column] = format_figure(name, value)
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    width = max(map(len, rows), default=0)
    if columns == [""]:
        return [f"{name:<{width}}  {row['']}" for name, row in rows.items()]
    lines = [(" " * width, columns)] if columns else []
    lines += [(f"{name:<{width}}", [row.get(c, "") for c in columns]) for name, row in rows.items()]
    return ["".join([name, *(f"{cell:>10}" for cell in cells)]).rstrip() for name, cells in lines]
