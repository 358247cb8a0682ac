"""Several models evaluated alike: what a student retains of its teacher."""

import contextlib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.analysis.prediction_files import SUFFIXES, read_predictions
from distill.buckets import local
from distill.errors import UserError
from distill.evaluate.evaluation import EvaluationConfig
from distill.evaluate.predicted import PredictionsConfig
from distill.json_files import read_json, write_json
from distill.parallel import distributed
from distill.parallel.printed import say
from distill.paths import in_bucket
from distill.runs.evaluated import FILE, Line, keep, kept, measure, measure_predictions
from distill.runs.models import checkpoint_step, recorded_model
from distill.runs.opened import describe_model
from distill.runs.retained import other_images, retained
from distill.runs.subject import as_taken, open_subjects
from distill.runs.weights import WeightsConfig
from distill.train.workdir import is_run
from students.pair import PairModel
from teachers.pretrained import towers

RESULT = "compare.json"
"""What is compared, in the directory that a comparison writes to."""


def named_models(arguments: Sequence[str]) -> dict[str, Path]:
    """Models by name, from `PATH` or `NAME=PATH`; one without a name is called as its last part.

    Raises:
      UserError: if nothing is there, or two have one name.
    """
    found: dict[str, Path] = {}
    for argument in arguments:
        name, equals, path = argument.partition("=")
        path = path if equals else argument
        place = local(path) if in_bucket(path) else Path(path).expanduser().absolute()
        name = name if equals else place.stem if place.suffix in SUFFIXES else place.name
        if not place.exists():
            raise UserError(f"{place} is not there; give runs, weights or files of predictions")
        if name in found:
            raise UserError(
                f"{found[name]} and {place} are both called {name!r}; call one otherwise: "
                f"OTHER={place}"
            )
        found[name] = place
    return found


def compare(
    models: Mapping[str, Path],
    evals: Mapping[str, EvaluationConfig],
    output: Path,
    *,
    batch_size: int = 256,
    data_dir: str | None = None,
    max_corrupt_share: float | None = None,
    of_pairs: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluates models one after the other and writes what they retain of the first of them.

    What an earlier comparison, or `distill evaluate`, has found of the same parameters, images and
    settings is not computed again.

    Args:
      models: workdirs, published weights or files of predictions, by name.
      evals: by name.
      output: a directory; its `RESULT` has what is returned.
      batch_size: over all devices.
      data_dir: see `DataConfig`; None takes the run's.
      max_corrupt_share: see `DataConfig`, likewise.
      of_pairs: fields of `WeightsConfig` of the published pairs among the models, such as
        `zeroshot`.

    Returns:
      `models`, each with its `name` and its `evaluations` by name, lines as of `FILE`, or null
      where a file of predictions is not enough; and what `retained` and `other_images` return.

    Raises:
      UserError: if a model cannot be opened, or not be evaluated as is asked.
    """
    output.mkdir(parents=True, exist_ok=True)
    opened = {}
    for name, place in models.items():
        with _of(name):
            opened[name] = _model_at(place, of_pairs or {})
            _check(place, opened[name], evals)
    reading = {"batch_size": batch_size, "data_dir": data_dir}
    reading |= {"max_corrupt_share": max_corrupt_share}
    known = _known(output / RESULT)
    found = []
    for number, (name, place) in enumerate(models.items(), 1):
        say(f"{name} ({number} of {len(models)}): {place}")
        with _of(name):
            model = opened[name]
            if model is None:
                lines = _of_predictions(place, evals)
            else:
                lines = _lines(model, evals, known, reading)
        found.append({"name": name, "model": str(place), "evaluations": lines})
        result = {
            "models": found,
            "retained": retained(found),
            "other_images": other_images(found),
        }
        # What one model took stands if the next one fails.
        if distributed.is_primary():
            write_json(output / RESULT, result)
    return result


def _known(file: Path) -> list[Line]:
    if not file.exists():
        return []
    models = read_json(file)["models"]
    return [line for one in models for line in one["evaluations"].values() if line]


@contextlib.contextmanager
def _of(name: str) -> Iterator[None]:
    """Has an error name the model or the evaluation that it is of, if it does not yet."""
    try:
        yield
    except UserError as error:
        if not str(error).startswith(f"evaluation {name}: "):
            error.args = (f"{name}: {error}", *error.args[1:])
        raise


def _model_at(place: Path, of_pairs: Mapping[str, Any]) -> Path | WeightsConfig | None:
    """A run's workdir or published weights; None of a file of predictions."""
    if place.suffix in SUFFIXES and _holds_predictions(place):
        return None
    if is_run(place):
        pair = "zeroshot" in of_pairs and isinstance(recorded_model(place), PairModel)
        return WeightsConfig(path=str(place), **of_pairs) if pair else place
    more = of_pairs if of_pairs and towers(place) == {"image", "text"} else {}
    return WeightsConfig(path=str(place), **more)


def _check(
    place: Path, model: Path | WeightsConfig | None, evals: Mapping[str, EvaluationConfig]
) -> None:
    """Checks what can be known of a model before another one is evaluated.

    Raises:
      UserError: if it cannot be opened, or an evaluation lacks images.
    """
    if model is None:
        read_predictions(place)
        return
    own = [name for name, one in evals.items() if not one.names_data]
    if isinstance(model, WeightsConfig) and own:
        raise UserError(
            f"{place} are published weights, which come without data: give "
            f"config.evals.{own[0]}.{evals[own[0]].unnamed}, which then is that of all models"
        )
    for taken in dict.fromkeys(as_taken(model, one) for one in evals.values()):
        describe_model(taken)
    if isinstance(model, Path):
        checkpoint_step(model)


def _lines(
    model: Path | WeightsConfig,
    evals: Mapping[str, EvaluationConfig],
    known: Sequence[Line],
    reading: Mapping[str, Any],
) -> dict[str, Line | None]:
    """What was found of a model, by the evaluation's name; `reading` is of `open_subject`."""
    known = [*known, *(kept(model / FILE) if isinstance(model, Path) else ())]
    found: dict[str, Line | None] = {}
    for opened, some in open_subjects(model, evals, **reading):
        for name, config in some.items():
            with _of(name):
                line, seen = measure(name, config, opened, known=known)
            for text in seen:
                say(f"  {name}: {text}")
            if line not in known and isinstance(model, Path) and distributed.is_primary():
                keep(model / FILE, line)
            found[name] = line
    return {name: found[name] for name in evals}


def _holds_predictions(file: Path) -> bool:
    """Whether it is such a file, as weights have the same suffix."""
    if file.suffix != ".npz":
        return True
    try:
        with zipfile.ZipFile(file) as archive:
            return bool({"logits.npy", "probabilities.npy"} & {*archive.namelist()})
    except (OSError, zipfile.BadZipFile):
        return True


def _of_predictions(file: Path, evals: Mapping[str, EvaluationConfig]) -> dict[str, Line | None]:
    predictions, found = read_predictions(file), {}
    for name, config in evals.items():
        if not isinstance(config, PredictionsConfig):
            say(f"  {name}: needs a model, not its predictions; left out")
            found[name] = None
            continue
        with _of(name):
            found[name], seen = measure_predictions(name, config, predictions, file)
        for text in seen:
            say(f"  {name}: {text}")
    return found
