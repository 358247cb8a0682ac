"""Trials of a model, made of its predictions on the benchmark's images."""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from distill.analysis.human.datasets import CATEGORIES, DATASETS, HUMAN, Dataset
from distill.analysis.human.sixteen import answers
from distill.analysis.human.trials import Trials
from distill.analysis.predictions import Predictions
from distill.errors import UserError

_SESSION = re.compile(r"(?:dnn/)?session-(\d+)/([^/]+)")
_BY_CATEGORY = re.compile(r"([^/]+)/([^/]+)")


@dataclasses.dataclass(frozen=True, order=True, kw_only=True)
class _Image:
    """What an image's path says."""

    dataset: str
    session: int
    path: str
    """In the set's folder; images are numbered in its order."""
    category: str
    name: str
    condition: str
    row: int
    """Of the predictions."""


def model_trials(
    predictions: Predictions, model: str, dataset: str | None = None
) -> tuple[Trials, ...]:
    """What a model answers, as trials, one for each set, that `write_trials` writes.

    Args:
      predictions: in classes that `sixteen.members` knows. Their names are paths below the
        benchmark's folder `datasets`: `colour/dnn/session-1/NAME.png`, where the name says
        category and condition, or `edge/airplane/NAME.png`.
      model: its name, as it is to stand in the trials.
      dataset: all images' set, if their names begin below its folder.

    Returns:
      Trials numbered in the order of the images' names.

    Raises:
      UserError: if a name says something else, or the classes are others.
    """
    if not model or HUMAN.fullmatch(model):
        raise UserError(f"a model cannot be called {model!r}, which is a person's name")
    if dataset is not None and dataset not in DATASETS:
        raise UserError(f"there is no set {dataset!r}; expected one of {', '.join(DATASETS)}")
    given = answers(predictions)
    images = sorted(_image(str(name), row, dataset) for row, name in enumerate(predictions.names))
    by_set: dict[str, list[_Image]] = {}
    for image in images:
        by_set.setdefault(image.dataset, []).append(image)
    return tuple(_trials(model, name, mine, given) for name, mine in by_set.items())


def _trials(model: str, dataset: str, images: Sequence[_Image], given: np.ndarray) -> Trials:
    sessions = np.array([image.session for image in images])
    numbers = np.empty_like(sessions)
    for session in np.unique(sessions):
        mine = sessions == session
        numbers[mine] = np.arange(1, mine.sum() + 1)
    return Trials(
        dataset=dataset,
        observer=model,
        sessions=sessions,
        numbers=numbers,
        seconds=np.full(len(images), np.nan),
        answers=given[[image.row for image in images]],
        categories=np.array([CATEGORIES.index(image.category) for image in images], np.int8),
        conditions=tuple(image.condition for image in images),
        images=tuple(image.name for image in images),
        source=f"predictions of {model}",
    )


def _image(path: str, row: int, dataset: str | None) -> _Image:
    first, _, rest = path.partition("/")
    if first in DATASETS and dataset in (None, first):
        dataset, path = first, rest
    if dataset is None:
        raise UserError(
            f"the image {path}, row {row + 1} of the predictions, is in no folder of a set; "
            f"expected a path such as edge/airplane/airplane1.png, its first part one of "
            f"{', '.join(DATASETS)}"
        )
    found = _parts(DATASETS[dataset], path)
    if found is None or found[1] not in CATEGORIES:
        raise UserError(
            f"the image {path} of {dataset}, row {row + 1} of the predictions, does not say its "
            "category; expected CATEGORY/NAME.png, or in dnn/session-1/ a name such as "
            "0001_cl_dnn_cr_oven_40_n04111531_14126.png, with one of the categories "
            f"{', '.join(CATEGORIES)}"
        )
    session, category, condition, name = found
    return _Image(
        dataset=dataset,
        session=session,
        path=path,
        category=category,
        condition=condition,
        name=name,
        row=row,
    )


def _parts(dataset: Dataset, path: str) -> tuple[int, str, str, str] | None:
    """Session, category, condition and name; None if the path does not say them."""
    if match := _SESSION.fullmatch(path):
        parts = match[2].split("_")
        return (int(match[1]), parts[4], parts[3], match[2]) if len(parts) > 6 else None
    match = None if dataset.parametric else _BY_CATEGORY.fullmatch(path)
    return (1, match[1], "NaN", match[2]) if match else None
