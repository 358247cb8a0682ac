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
from distill.analysis.label_spaces.whole_set import remarks_on_undeclared
from distill.analysis.prediction_files import read_predictions
from distill.analysis.predictions import Predictions
from distill.config import to_dict
from distill.errors import UserError
from distill.evaluate.evaluation import EvaluationConfig
from distill.evaluate.predicted import PredictionsConfig, named
from distill.evaluate.split import SplitConfig
from distill.json_files import append_json_line, damaged_line, read_json_lines
from distill.parallel import distributed
from distill.parallel.printed import say
from distill.runs.evaluations import build, say_remarks
from distill.runs.heads import is_head
from distill.runs.retained import recorded_images
from distill.runs.subject import OpenedSubject, open_subjects
from distill.runs.weights import WeightsConfig
from distill.train.progress import format_figure
from distill.train.workdir import read_config

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
    max_corrupt_share: float | None = None,
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
      max_corrupt_share: see `DataConfig`, likewise.
      output: the file that a line is added to for each evaluation; None takes that of the workdir.

    Raises:
      UserError: if the model cannot be opened, or not be evaluated as is asked.
    """
    evals = evals or {"": SplitConfig()}
    if isinstance(model, WeightsConfig):
        _check_named(model, evals)
    if output is None and not isinstance(model, WeightsConfig):
        output = model / FILE
    if isinstance(model, Path) and is_head(read_config(model)):
        _check_head(model, evals)
    choices = dict(batch_size=batch_size, best=best, data_dir=data_dir, heads=True)
    choices |= {"max_corrupt_share": max_corrupt_share}
    found = {}
    for opened, some in open_subjects(model, evals, **choices):
        for name, config in some.items():
            line, seen = measure(name, config, opened, weights="best" if best else "last")
            found |= show(line, seen, output)
    return found


def _check_head(workdir: Path, evals: Mapping[str, EvaluationConfig]) -> None:
    """Refuses what is measured of models of whole images."""
    for name, one in evals.items():
        if not isinstance(one, SplitConfig):
            raise UserError(
                f"the evaluation {name!r} is of kind {to_dict(one)['kind']}, which measures a "
                f"model of whole images, and {workdir} holds a head: give --split and --source, "
                "or evaluate the model that it is on"
            )


def _check_named(weights: WeightsConfig, evals: Mapping[str, EvaluationConfig]) -> None:
    """Checks that evaluations of published weights say on which images they are.

    Raises:
      UserError: if one does not.
    """
    for name, one in evals.items():
        if not one.names_data:
            key = f"config.evals.{name or 'NAME'}.{one.unnamed}"
            short = "--source, or " if one.unnamed == "source" else ""
            raise UserError(f"{weights.called} come without data; give {short}{key}")


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
    asked: dict[str, PredictionsConfig] = {}
    for name, config in evals.items():
        if not isinstance(config, PredictionsConfig):
            kind = to_dict(config)["kind"]
            raise UserError(
                f"the evaluation {name!r} is of kind {kind}, which needs a model: give --workdir "
                "or --weights (docs/predictions.md has those for which predictions are enough)"
            )
        asked[name] = config
    predictions, found = read_predictions(file), {}
    for name, config in asked.items():
        line, seen = measure_predictions(name, config, predictions, file)
        found |= show(line, seen, output)
    return found


Line = dict[str, Any]
"""Of `FILE`: what was evaluated, when and by what, and the metrics, as JSON can hold it."""


def measure(
    name: str,
    config: EvaluationConfig,
    opened: OpenedSubject,
    *,
    weights: str = "last",
    known: Sequence[Line] = (),
) -> tuple[Line, list[str]]:
    """Evaluates a model that is open.

    Args:
      name: of the evaluation; empty calls it as the run's test split.
      config: what to measure.
      opened: the model.
      weights: which of a run's they are, `last` or `best`.
      known: lines of earlier evaluations; one of the same parameters, images and settings is
        returned as it is, the latest first, unless the evaluation is to write files.

    Returns:
      The line, and what is to be said of the images.

    Raises:
      UserError: if the model cannot be evaluated as is asked.
    """
    subject = opened.subject
    name = name or subject.split or ""
    evaluation = build(name, config, subject) if name else None
    if evaluation is None:
        raise UserError(
            f"{subject.place} has nothing for the evaluation {name or 'of a split'!r}: the run has "
            "neither test nor validation split, or nothing to compare with; name a split "
            "(--split, config.evals.NAME.split)"
        )
    say_remarks(name, evaluation)
    model = {
        "model": subject.place,
        "step": opened.step,
        "weights": weights,
        "parameters": opened.parameters,
        "teachers": opened.teachers,
        "batch_size": subject.batch_size,
        "files": config.files(),
        **opened.about,
    }
    asked = {"name": name, "config": to_dict(config), **model, **evaluation.about()}
    for line in () if config.writes else reversed(known):
        if _identity(line) == _identity(asked):
            return line, [f"as evaluated before, {line['time']}"]
    began = time.perf_counter()
    metrics = evaluation(opened.params, opened.frozen)
    seconds = time.perf_counter() - began
    return _line(name, config, model | evaluation.about(), metrics, seconds), evaluation.seen()


def measure_predictions(
    name: str, config: PredictionsConfig, predictions: Predictions, file: Path
) -> tuple[Line, list[str]]:
    """Evaluates predictions; see `measure`.

    Raises:
      UserError: if they lack what is measured.
    """
    began = time.perf_counter()
    measured = config.measure(predictions)
    metrics = {key: value for key, value in named(name, measured).items() if value is not None}
    seconds = time.perf_counter() - began
    about = {"predictions": str(file), **predictions.about, "files": config.files()}
    about |= {"details": dict(measured.details)}
    undeclared = remarks_on_undeclared(predictions) if config.by_the_models_classes else ()
    ignored = _ignored(config, predictions)
    seen = [f"{len(predictions):,} images of {file}", *ignored, *undeclared, *measured.lines]
    return _line(name, config, about, metrics, seconds), seen


def _ignored(config: PredictionsConfig, predictions: Predictions) -> list[str]:
    """What the settings say of images and a file of predictions does not say of its own."""
    recorded = recorded_images(predictions.about)
    of = recorded[0] if len(recorded) == 1 else {}
    asked = {"source": config.source, "split": config.split}
    others = [f"{key}={value}" for key, value in asked.items() if value not in (None, of.get(key))]
    if not others:
        return []
    known = f", of {of['source']} {of['split']}" if of else ""
    return [f"warning: {' and '.join(others)} ignored: predictions are of the file's images{known}"]


def show(line: Line, seen: Sequence[str], output: Path | None) -> dict[str, float]:
    """Prints what was found, keeps it in a file, and returns the metrics."""
    if distributed.is_primary():
        for text in (*seen, *table(line["metrics"])):
            print(text)
        if output is not None:
            keep(output, line)
    return line["metrics"]


# What the result of an evaluation depends on.
_DECIDES = (
    *("name", "parameters", "teachers", "data", "learnt_from", "view", "among", "class_map"),
    *("files", "predictions", "zeroshot"),
)


def _identity(line: Mapping[str, Any]) -> Any:
    """What has to be the same for two evaluations to have one result, as JSON has it."""
    config = {key: value for key, value in line["config"].items() if key != "every"}
    said = {key: line.get(key) or None for key in _DECIDES} | {"config": config}
    if config.get("kind") == "views":
        # Mixtures are drawn batch by batch.
        said["batch_size"] = line.get("batch_size")
    return json.loads(json.dumps(said))


def _line(
    name: str,
    config: EvaluationConfig,
    about: Mapping[str, Any],
    metrics: Mapping[str, float],
    seconds: float,
) -> Line:
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
        "metrics": dict(metrics),
        "seconds": round(seconds, 3),
    }


def keep(file: Path, line: Line) -> None:
    """Adds a line to a file; one that cannot be written is said."""
    try:
        append_json_line(file, line)
    except OSError as error:
        say(f"{file} cannot be written, and keeps nothing of this: {error.strerror}")


def kept(file: Path) -> list[Line]:
    """The lines of a file, the earliest first; none where there is no such file.

    Raises:
      Damaged: naming the line, if one but a last one that a kill cut off tells of no evaluation.
    """
    lines = read_json_lines(file) if file.exists() else []
    for number, line in enumerate(lines, 1):
        if not {"name", "config", "metrics", "time"} <= line.keys():
            raise damaged_line(file, number, "it tells of no evaluation")
    return lines


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
