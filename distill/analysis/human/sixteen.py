"""From a model's classes to the 16 categories.

The probability of a category is the mean of those of its ImageNet classes, 207 of the 1,000; the
category with the highest is the answer, as in the toolbox model-vs-human (arXiv 2106.07411).
"""

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from distill.analysis.human.archive import shipped_file
from distill.analysis.human.datasets import CATEGORIES
from distill.analysis.predictions import Predictions
from distill.errors import UserError
from distill.json_files import read_json

_IMAGENET_CLASSES = 1000


@functools.cache
def imagenet_members() -> Mapping[str, Mapping[str, int]]:
    """By category its ImageNet classes: WordNet ids, and their places among the 1,000."""
    return read_json(shipped_file("data/sixteen_classes.json"))


def members(class_names: Sequence[str]) -> tuple[np.ndarray, ...]:
    """The classes of each category, int64 places among a model's classes.

    Args:
      class_names: the model's: the 16 categories, or ImageNet's 1,000 classes. Both are found by
        name, whatever their order; 1,000 that are not called by WordNet ids are taken to be in
        ImageNet's.

    Raises:
      UserError: if they are neither.
    """
    place = {name: number for number, name in enumerate(class_names)}
    if sorted(class_names) == list(CATEGORIES):
        return tuple(np.array([place[category]]) for category in CATEGORIES)
    if len(class_names) != _IMAGENET_CLASSES:
        raise UserError(
            f"the model has {len(class_names)} classes, such as {class_names[0]!r}; expected "
            f"ImageNet's {_IMAGENET_CLASSES}, or the 16 categories {', '.join(CATEGORIES)}"
        )
    mapping = imagenet_members().values()
    known = [wnid for wnids in mapping for wnid in wnids]
    called = [wnid in place for wnid in known]
    if any(called) and not all(called):
        missing = known[called.index(False)]
        raise UserError(
            f"the model's classes lack {missing}, which is one of ImageNet's 1,000; expected all "
            "of these, or the 16 categories"
        )
    return tuple(
        np.array([place[wnid] if any(called) else number for wnid, number in wnids.items()])
        for wnids in mapping
    )


def decide(probabilities: np.ndarray, classes: Sequence[np.ndarray]) -> np.ndarray:
    """The answers: int8 [N], places in `CATEGORIES`; of equal ones the last, as in the toolbox.

    Args:
      probabilities: float64 [N, C], of all the model's classes together.
      classes: the 16 categories' places among them.
    """
    means = np.stack([probabilities[:, one].mean(axis=1) for one in classes], axis=1)
    # Means of many equal numbers differ from these in their last bits.
    highest = means >= means.max(axis=1, keepdims=True) * (1 - 1e-12)
    return (means.shape[1] - 1 - highest[:, ::-1].argmax(axis=1)).astype(np.int8)


def answers(predictions: Predictions) -> np.ndarray:
    """A model's answers: int8 [N], places in `CATEGORIES`.

    Raises:
      UserError: if its classes are neither ImageNet's nor the categories.
    """
    return decide(predictions.probabilities(), members(predictions.class_names))
